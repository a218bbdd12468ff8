//! The answers read back through the structures of the `limine` crate, which is what the kernel does.
#![allow(unsafe_code)]

use crate::DIRECT_MAP_BASE;
use crate::memory_map::{Kind, Region};
use crate::multiboot::{EfiMemoryMap, EfiSystemTable, Framebuffer};
use crate::requests::Requests;
use crate::responses::{Arena, ArenaFull, Facts, File, Processors, answer};
use limine::BaseRevision;
use limine::firmware_type::FirmwareType;
use limine::memory_map::EntryType;
use limine::request::*;
use std::vec::Vec;

#[repr(C)]
struct Kernel {
    revision: BaseRevision,
    loader: BootloaderInfoRequest,
    command_line: ExecutableCmdlineRequest,
    firmware: FirmwareTypeRequest,
    stack: StackSizeRequest,
    direct_map: HhdmRequest,
    framebuffer: FramebufferRequest,
    paging: PagingModeRequest,
    processors: MpRequest,
    memory: MemoryMapRequest,
    file: ExecutableFileRequest,
    modules: ModuleRequest,
    rsdp: RsdpRequest,
    smbios: SmbiosRequest,
    efi: EfiSystemTableRequest,
    efi_memory: EfiMemoryMapRequest,
    date: DateAtBootRequest,
    address: ExecutableAddressRequest,
    tree: DeviceTreeBlobRequest,
}

fn kernel(revision: u64) -> std::boxed::Box<Kernel> {
    std::boxed::Box::new(Kernel {
        revision: BaseRevision::with_revision(revision),
        loader: BootloaderInfoRequest::new(),
        command_line: ExecutableCmdlineRequest::new(),
        firmware: FirmwareTypeRequest::new(),
        stack: StackSizeRequest::new().with_size(1 << 17),
        direct_map: HhdmRequest::new(),
        framebuffer: FramebufferRequest::new(),
        paging: PagingModeRequest::new(),
        processors: MpRequest::new(),
        memory: MemoryMapRequest::new(),
        file: ExecutableFileRequest::new(),
        modules: ModuleRequest::new(),
        rsdp: RsdpRequest::new(),
        smbios: SmbiosRequest::new(),
        efi: EfiSystemTableRequest::new(),
        efi_memory: EfiMemoryMapRequest::new(),
        date: DateAtBootRequest::new(),
        address: ExecutableAddressRequest::new(),
        tree: DeviceTreeBlobRequest::new(),
    })
}

fn image(kernel: &mut Kernel) -> &mut [u8] {
    let length = size_of::<Kernel>();
    // SAFETY: the structure is borrowed for as long as the slice and consists of integers without padding.
    unsafe { core::slice::from_raw_parts_mut((&raw mut *kernel).cast::<u8>(), length) }
}

const REGIONS: [Region; 2] = [
    Region {
        start: 0x1000,
        end: 0x9f000,
        kind: Kind::Usable,
    },
    Region {
        start: 0x10_0000,
        end: 0x18_0000,
        kind: Kind::ExecutableAndModules,
    },
];

const PIXELS: Framebuffer = Framebuffer {
    address: 0xfd00_0000,
    pitch: 5120,
    width: 1280,
    height: 800,
    bits_per_pixel: 32,
    fields: [(16, 8), (8, 7), (1, 6)],
};

fn facts(modules: &'static [File<'static>]) -> Facts<'static> {
    Facts {
        loader: ("stage", "1.0"),
        kernel: File {
            start: 0x20_0000,
            size: 77,
            path: "boot/kernel",
            string: "exit=bochs log=info",
        },
        modules,
        framebuffer: None,
        rsdp: None,
        smbios: (None, None),
        efi_system_table: None,
        efi_memory_map: None,
        time: 1_700_000_000,
        image: (0x40_0000, 0xffff_ffff_8000_0000),
        processors: None,
        regions: &REGIONS,
    }
}

/// Answers the kernel's requests from memory at its true address, so that every pointer can be followed.
fn run(kernel: &mut Kernel, memory: &mut [u64], facts: &Facts<'_>) -> Result<(), ArenaFull> {
    let address = memory.as_ptr() as u64;
    // SAFETY: the same memory as bytes; integers have no invalid values.
    let bytes =
        unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), memory.len() * 8) };
    let mut arena = Arena::new(bytes, address);
    let requests = Requests::scan(image(kernel)).unwrap();
    let structures = [arena.processor(1, 0)?, arena.processor(2, 4)?];
    let processors = Processors {
        x2apic: true,
        boot_apic_id: 4,
        structures: &structures,
    };
    let facts = Facts {
        processors: facts.processors.map(|_| processors),
        ..*facts
    };
    answer(&requests, image(kernel), &mut arena, &facts)?;
    requests.acknowledge_revision(image(kernel));
    Ok(())
}

const ABSENT: Processors<'static> = Processors {
    x2apic: false,
    boot_apic_id: 0,
    structures: &[],
};

#[test]
fn a_full_machine() {
    let modules: &[File] = &[
        File {
            start: 0x30_0000,
            size: 5,
            path: "/boot/init",
            string: "init",
        },
        File {
            start: 0x31_0000,
            size: 6,
            path: "root.tar",
            string: "root.tar",
        },
    ];
    let descriptors = [0; 96];
    let map = EfiMemoryMap {
        descriptor_size: 48,
        descriptor_version: 1,
        descriptors: &descriptors,
    };
    let facts = Facts {
        framebuffer: Some(PIXELS),
        rsdp: Some(0xf_5ad0),
        smbios: (Some(0xf_0000), None),
        efi_system_table: Some(EfiSystemTable::Bits64(0x7f00_0018)),
        efi_memory_map: Some((0x9000, map)),
        processors: Some(ABSENT),
        ..facts(modules)
    };
    let mut kernel = kernel(2);
    let mut memory = std::vec![0; 4096];
    run(&mut kernel, &mut memory, &facts).unwrap();

    assert!(kernel.revision.is_supported());
    assert_eq!(kernel.revision.loaded_revision(), Some(2));
    let loader = kernel.loader.get_response().unwrap();
    assert_eq!((loader.name(), loader.version()), ("stage", "1.0"));
    assert_eq!(
        kernel.command_line.get_response().unwrap().cmdline(),
        c"exit=bochs log=info"
    );
    assert!(kernel.firmware.get_response().unwrap().firmware_type() == FirmwareType::UEFI_64);
    assert!(kernel.stack.get_response().is_some());
    assert_eq!(
        kernel.direct_map.get_response().unwrap().offset(),
        DIRECT_MAP_BASE
    );
    assert!(kernel.paging.get_response().unwrap().mode() == limine::paging::Mode::FOUR_LEVEL);

    let framebuffers: Vec<_> = kernel
        .framebuffer
        .get_response()
        .unwrap()
        .framebuffers()
        .collect();
    assert_eq!(framebuffers.len(), 1);
    let screen = &framebuffers[0];
    assert_eq!(screen.addr() as u64, DIRECT_MAP_BASE + 0xfd00_0000);
    assert_eq!(
        (screen.width(), screen.height(), screen.pitch(), screen.bpp()),
        (1280, 800, 5120, 32)
    );
    assert!(screen.memory_model() == limine::framebuffer::MemoryModel::RGB);
    assert_eq!((screen.red_mask_shift(), screen.red_mask_size()), (16, 8));
    assert_eq!((screen.green_mask_shift(), screen.green_mask_size()), (8, 7));
    assert_eq!((screen.blue_mask_shift(), screen.blue_mask_size()), (1, 6));
    assert!(screen.edid().is_none());
    let modes = screen.modes().unwrap();
    assert_eq!(
        (modes.len(), modes[0].width, modes[0].blue_mask_shift),
        (1, 1280, 1)
    );

    let processors = kernel.processors.get_response().unwrap();
    assert_eq!((processors.bsp_lapic_id(), processors.flags().bits()), (4, 1));
    let ids: Vec<_> = processors
        .cpus()
        .iter()
        .map(|cpu| (cpu.id, cpu.lapic_id))
        .collect();
    assert_eq!(ids, [(1, 0), (2, 4)]);

    let entries = kernel.memory.get_response().unwrap().entries();
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].base, entries[0].length), (0x1000, 0x9e000));
    assert!(entries[0].entry_type == EntryType::USABLE);
    assert!(entries[1].entry_type == EntryType::EXECUTABLE_AND_MODULES);

    let file = kernel.file.get_response().unwrap().file();
    assert_eq!(
        (file.addr() as u64, file.size()),
        (DIRECT_MAP_BASE + 0x20_0000, 77)
    );
    assert_eq!(
        (file.path(), file.string()),
        (c"/boot/kernel", c"exit=bochs log=info")
    );
    assert_eq!(
        file.string().as_ptr(),
        kernel.command_line.get_response().unwrap().cmdline().as_ptr()
    );
    let modules = kernel.modules.get_response().unwrap().modules();
    assert_eq!((modules[0].path(), modules[0].string()), (c"/boot/init", c"init"));
    assert_eq!((modules[1].path(), modules[1].size()), (c"/root.tar", 6));
    assert!(modules[1].tftp_ip().is_none() && modules[1].gpt_disk_id().is_none());

    assert_eq!(
        kernel.rsdp.get_response().unwrap().address() as u64,
        DIRECT_MAP_BASE + 0xf_5ad0
    );
    let smbios = kernel.smbios.get_response().unwrap();
    assert_eq!(
        smbios.entry_32().unwrap().get() as u64,
        DIRECT_MAP_BASE + 0xf_0000
    );
    assert!(smbios.entry_64().is_none());
    assert_eq!(
        kernel.efi.get_response().unwrap().address() as u64,
        DIRECT_MAP_BASE + 0x7f00_0018
    );
    let map = kernel.efi_memory.get_response().unwrap();
    assert_eq!(
        (map.memmap() as u64, map.memmap_size()),
        (DIRECT_MAP_BASE + 0x9000, 96)
    );
    assert_eq!((map.desc_size(), map.desc_version()), (48, 1));
    assert_eq!(
        kernel.date.get_response().unwrap().timestamp().as_secs(),
        1_700_000_000
    );
    let address = kernel.address.get_response().unwrap();
    assert_eq!(
        (address.physical_base(), address.virtual_base()),
        (0x40_0000, 0xffff_ffff_8000_0000)
    );
    assert!(kernel.tree.get_response().is_none());
}

#[test]
fn what_is_not_there_is_not_answered() {
    let mut kernel = kernel(2);
    run(&mut kernel, &mut std::vec![0; 4096], &facts(&[])).unwrap();
    assert!(kernel.framebuffer.get_response().is_none());
    assert!(kernel.processors.get_response().is_none());
    assert!(kernel.modules.get_response().is_none());
    assert!(kernel.rsdp.get_response().is_none());
    assert!(kernel.smbios.get_response().is_none());
    assert!(kernel.efi.get_response().is_none());
    assert!(kernel.efi_memory.get_response().is_none());
    assert!(kernel.firmware.get_response().is_some());
}

#[test]
fn firmware_pointers_are_physical_from_revision_3() {
    let facts = Facts {
        rsdp: Some(0xf_5ad0),
        smbios: (None, Some(0xf_0000)),
        efi_system_table: Some(EfiSystemTable::Bits32(0x7000)),
        ..facts(&[])
    };
    let mut kernel = kernel(3);
    let mut memory = std::vec![0; 4096];
    run(&mut kernel, &mut memory, &facts).unwrap();
    assert_eq!(kernel.rsdp.get_response().unwrap().address(), 0xf_5ad0);
    assert_eq!(
        kernel.smbios.get_response().unwrap().entry_64().unwrap().get(),
        0xf_0000
    );
    assert_eq!(kernel.efi.get_response().unwrap().address(), 0x7000);
}

#[test]
fn a_small_arena_is_an_error() {
    let fits = |words| run(&mut kernel(2), &mut std::vec![0; words], &facts(&[])).is_ok();
    let enough = (0..4096).find(|&words| fits(words)).unwrap();
    assert!(enough > 40);
    assert!((0..enough + 50).all(|words| fits(words) == (words >= enough)));
    assert_eq!(run(&mut kernel(2), &mut [], &facts(&[])), Err(ArenaFull));
}
