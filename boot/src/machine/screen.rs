//! A message on the screen, whichever kind it is, for a machine that cannot be booted.

use core::fmt::{self, Write};

use dragonet_boot::REACHABLE_END;
use dragonet_boot::multiboot::{BootInformation, Framebuffer};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const TEXT_CELLS: *mut u16 = 0xb_8000 as *mut u16;
const TEXT_COLUMNS: usize = 80;
const TEXT_LINES: usize = 25;
const WHITE_ON_RED: u16 = 0x4f00;

const GLYPH_HEIGHT: usize = 16;
const MARGIN: usize = 16;

/// Where on the screen the next character goes.
#[derive(Debug)]
pub struct Screen {
    framebuffer: Option<Framebuffer>,
    column: usize,
    line: usize,
}

impl Screen {
    /// The screen that the loader has set up; nothing if there is none that can be written.
    pub fn new(information: &BootInformation<'_>) -> Option<Self> {
        match information.framebuffer {
            Some(framebuffer) => {
                let end = framebuffer.address.checked_add(framebuffer.size())?;
                let drawable = end <= REACHABLE_END && matches!(framebuffer.bits_per_pixel, 24 | 32);
                drawable.then_some(Screen {
                    framebuffer: Some(framebuffer),
                    column: 0,
                    line: 0,
                })
            }
            None => information.text_screen.then_some(Screen {
                framebuffer: None,
                column: 0,
                line: 0,
            }),
        }
    }

    fn put(&mut self, character: char) {
        let (columns, lines) = match &self.framebuffer {
            None => (TEXT_COLUMNS, TEXT_LINES),
            Some(framebuffer) => {
                let width = get_raster_width(FontWeight::Regular, RasterHeight::Size16);
                let fit = |pixels: u32, cell: usize| (pixels as usize).saturating_sub(2 * MARGIN) / cell;
                (
                    fit(framebuffer.width, width),
                    fit(framebuffer.height, GLYPH_HEIGHT),
                )
            }
        };
        if character == '\n' || self.column >= columns {
            self.column = 0;
            self.line += 1;
        }
        if character == '\n' || self.line >= lines || columns == 0 {
            return;
        }
        match &self.framebuffer {
            None => put_cell(self.column, self.line, character),
            Some(framebuffer) => draw(framebuffer, self.column, self.line, character),
        }
        self.column += 1;
    }
}

impl Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().for_each(|character| self.put(character));
        Ok(())
    }
}

fn put_cell(column: usize, line: usize, character: char) {
    let code = if character.is_ascii() {
        character as u16
    } else {
        u16::from(b'?')
    };
    // SAFETY: column and line are inside the 80 by 25 cells of the text mode, which the loader says the screen is in.
    unsafe {
        TEXT_CELLS
            .add(line * TEXT_COLUMNS + column)
            .write_volatile(WHITE_ON_RED | code)
    };
}

fn draw(framebuffer: &Framebuffer, column: usize, line: usize, character: char) {
    let glyph = |character| get_raster(character, FontWeight::Regular, RasterHeight::Size16);
    let Some(glyph) = glyph(character).or_else(|| glyph('?')) else {
        return;
    };
    for (y, row) in glyph.raster().iter().enumerate() {
        for (x, &intensity) in row.iter().enumerate() {
            let (x, y) = (
                MARGIN + column * glyph.width() + x,
                MARGIN + line * GLYPH_HEIGHT + y,
            );
            let colour = framebuffer.fields.iter().fold(0u32, |colour, &(position, size)| {
                let level = u32::from(intensity) >> 8u8.saturating_sub(size);
                colour | level.checked_shl(position.into()).unwrap_or(0)
            });
            let bytes = usize::from(framebuffer.bits_per_pixel / 8);
            let offset = y * framebuffer.pitch as usize + x * bytes;
            if offset + bytes > framebuffer.size() as usize {
                continue;
            }
            for (index, byte) in colour.to_le_bytes().into_iter().take(bytes).enumerate() {
                let place = (framebuffer.address as usize + offset + index) as *mut u8;
                // SAFETY: inside the framebuffer, which is below 4 GiB and therefore mapped.
                unsafe { place.write_volatile(byte) };
            }
        }
    }
}
