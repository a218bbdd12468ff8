# Entry of the stage on every CPU: from the loader's 32-bit protected mode (boot CPU) or from real mode (the others)
# to 64-bit code on a stack. Symbols without `.global` stay inside this file.

.set MULTIBOOT1_MAGIC, 0x1badb002
.set MULTIBOOT1_FLAGS, 0x00010003           # page-aligned modules, memory map, address fields valid
.set MULTIBOOT2_MAGIC, 0xe85250d6

.set CODE32, 0x18
.set DATA32, 0x20
.set CODE64, 0x28
.set DATA64, 0x30

.set CR0_ENTER, 0x80010033                  # PG WP NE ET MP PE; caches on, no emulation, no task switched
.set CR4_PAE, 0x20
.set MSR_EFER, 0xc0000080
.set EFER_LME, 0x100

.section .multiboot, "a"
.balign 8
multiboot1_header:
    .long MULTIBOOT1_MAGIC
    .long MULTIBOOT1_FLAGS
    .long -(MULTIBOOT1_MAGIC + MULTIBOOT1_FLAGS)
    .long multiboot1_header
    .long stage_start
    .long stage_load_end
    .long stage_end
    .long multiboot_entry

.balign 8
multiboot2_header:
    .long MULTIBOOT2_MAGIC
    .long 0                                 # i386, 32-bit protected mode
    .long multiboot2_header_end - multiboot2_header
    .long -(MULTIBOOT2_MAGIC + (multiboot2_header_end - multiboot2_header))
    # Modules on page boundaries.
    .balign 8
    .short 6, 0
    .long 8
    # A linear framebuffer, by preference of this width, height and depth; the machine may have none. Without a
    # preference GRUB may choose a mode with a palette, which is of no use and crashes Bochs' video BIOS.
    .balign 8
    .short 5, 1
    .long 20
    .long 1024, 768, 32
    # End of tags.
    .balign 8
    .short 0, 0
    .long 8
multiboot2_header_end:

.text
.code32
.global multiboot_entry
multiboot_entry:
    cli
    cld
    mov esp, offset boot_stack_top
    mov edi, eax                            # the loader's magic number
    mov esi, ebx                            # address of its information

    # CPUID exists if the ID flag can be toggled.
    pushfd
    pop eax
    mov ecx, eax
    xor eax, 0x200000
    push eax
    popfd
    pushfd
    pop eax
    cmp eax, ecx
    je no_long_mode
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc no_long_mode

    lgdt [boot_gdt_pointer]
    call enable_long_mode
    .byte 0xea                              # far jump into 64-bit code
    .long boot_entry_64
    .short CODE64

# Turns on long mode with the stage's own tables. Clobbers EAX, EBX, ECX, EDX.
enable_long_mode:
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, CR0_ENTER
    mov cr0, eax
    ret

.code64
boot_entry_64:
    mov ax, DATA64
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov rsp, offset boot_stack_top
    xor ebp, ebp
    mov edi, edi
    mov esi, esi
    call stage_main
    ud2

# Real-mode entry of the other CPUs. Copied to a page below 1 MiB; it addresses its own bytes relative to CS and
# everything else by absolute 32-bit addresses, so the copy needs no fixing up.
.code16
.balign 8
.global trampoline_start
trampoline_start:
    jmp 1f
    .balign 8
    .short boot_gdt_end - boot_gdt - 1      # at offset 8: the segments, by their 32-bit address
    .long boot_gdt
1:  cli
    cld
    mov ax, cs
    mov ds, ax
    mov bx, 8
    lgdtd [bx]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea                        # far jump into 32-bit code of the stage itself
    .long application_entry_32
    .short CODE32
.global trampoline_end
trampoline_end:

.code32
application_entry_32:
    mov ax, DATA32
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, offset application_early_stack_top
    call enable_long_mode
    .byte 0xea
    .long application_entry_64
    .short CODE64

.code64
application_entry_64:
    mov ax, DATA64
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    # The boot CPU starts the others one at a time and names the stack before it sends the start-up interrupt.
    mov rsp, [application_stack]
    xor ebp, ebp
    call application_main
    ud2

# handoff(page_table: rdi, entry: rsi, stack_top: rdx) -> !
# Runs at its address in the higher-half direct map, which is in both the old and the new tables.
.global handoff
handoff:
    mov cr3, rdi
    mov rsp, rdx
    push 0                                  # the return address that must not be used
    push CODE64
    push rsi
    mov ax, DATA64
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    push 2                                  # IF, DF and VM clear
    popfq
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    retfq

# park(page_table: rdi, processor: rsi, stack_top: rdx, ready: rcx) -> !
# Runs in the higher-half direct map, like `handoff`. `ready` is in the direct map too. Waits until the kernel
# writes an address into the processor's structure and goes there as the protocol says.
.global park
park:
    mov cr3, rdi
    mov rsp, rdx
    mov rdi, rsi
    mov ax, DATA64
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    push 0
    push 2
    popfq
    mov dword ptr [rcx], 1
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
1:  pause
    mov rax, [rdi + 16]                     # goto_address
    test rax, rax
    jz 1b
    push CODE64
    push rax
    xor eax, eax
    retfq

# One stub of 16 bytes for each exception, so that each leaves the same frame: vector, error code, RIP.
.balign 16
.global exception_stubs
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21 && vector != 29 && vector != 30
    push 0
    .endif
    push vector
    jmp exception_common
    .set vector, vector + 1
    .endr
.balign 16
exception_common:
    mov rdi, [rsp]
    mov rsi, [rsp + 8]
    mov rdx, [rsp + 16]
    mov rcx, cr2
    cld
    and rsp, -16
    call stage_exception
    ud2

.section .data.boot_tables, "aw"
# First 4 GiB, one to one and again at the start of the higher-half direct map.
.balign 4096
.global boot_pml4
boot_pml4:
    .quad boot_pdpt + 3
    .fill 255, 8, 0
    .quad boot_pdpt + 3
    .fill 255, 8, 0
boot_pdpt:
    .quad boot_page_directories + 0x0003
    .quad boot_page_directories + 0x1003
    .quad boot_page_directories + 0x2003
    .quad boot_page_directories + 0x3003
    .fill 508, 8, 0
boot_page_directories:
    .set frame, 0
    .rept 2048
    .quad (frame << 21) + 0x83
    .set frame, frame + 1
    .endr

# The table the protocol promises, entry for entry. The kernel is given a copy in reclaimable memory.
.balign 16
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00009a000000ffff                # 16-bit code
    .quad 0x000092000000ffff                # 16-bit data
    .quad 0x00cf9a000000ffff                # 32-bit code
    .quad 0x00cf92000000ffff                # 32-bit data
    .quad 0x00209a0000000000                # 64-bit code
    .quad 0x0000920000000000                # 64-bit data
.global boot_gdt_end
boot_gdt_end:
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt
.balign 8
.global application_stack
application_stack:
    .quad 0

.bss
.balign 16
    .skip 512 * 1024
boot_stack_top:
    .skip 256
application_early_stack_top:

.text
.code64
