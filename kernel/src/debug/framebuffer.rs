//! The text console on the firmware's frame buffer: output only, the newest lines at the bottom.
//!
//! What the screen shows is also kept as text, so that scrolling redraws only cells that change and never reads video memory. All state
//! is in atomics: a panic may write while another CPU was stopped in the middle of a line.

use crate::arch::boot::{ColorField, Framebuffer};
use crate::arch::frame_memory;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use spin::Once;

const CELL_HEIGHT: usize = RasterHeight::Size16.val();
const CELL_WIDTH: usize = get_raster_width(FontWeight::Regular, RasterHeight::Size16);
/// Cells that can be kept: a screen of 3840 x 2160 pixels.
const MAX_CELLS: usize = 74_000;
/// One part of the screen's lines that is freed when it is full: a few at once cost little more than one.
const SCROLL_PART: usize = 8;
const TAB: usize = 8;

struct Screen {
    pitch: usize,
    pixel_size: usize,
    columns: usize,
    rows: usize,
}

static SCREEN: Once<Screen> = Once::new();
/// The character in each cell, in Latin-1; 0 and blank look the same.
static CELLS: [AtomicU8; MAX_CELLS] = [const { AtomicU8::new(b' ') }; MAX_CELLS];
/// Pixel value of each intensity.
static PIXELS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];
static COLUMN: AtomicUsize = AtomicUsize::new(0);
static ROW: AtomicUsize = AtomicUsize::new(0);

/// Clears the screen and begins at its top.
pub fn init(framebuffer: &Framebuffer) {
    let columns = framebuffer.width / CELL_WIDTH;
    if columns == 0 {
        return;
    }
    let rows = (framebuffer.height / CELL_HEIGHT).min(MAX_CELLS / columns);
    if rows == 0 {
        return;
    }
    for (intensity, pixel) in PIXELS.iter().enumerate() {
        pixel.store(gray(&framebuffer.colors, intensity as u32), Ordering::Relaxed);
    }
    SCREEN.call_once(|| Screen {
        pitch: framebuffer.pitch,
        pixel_size: framebuffer.pixel_size,
        columns,
        rows,
    });
    if frame_memory::is_ready() {
        clear(framebuffer);
    }
}

fn clear(framebuffer: &Framebuffer) {
    for line in 0..framebuffer.height {
        for column in 0..framebuffer.width {
            let offset = line * framebuffer.pitch + column * framebuffer.pixel_size;
            frame_memory::write(offset, 0, framebuffer.pixel_size);
        }
    }
}

/// A gray of the given intensity (0 to 255) as a pixel.
fn gray(colors: &[ColorField; 3], intensity: u32) -> u32 {
    colors.iter().fold(0, |pixel, field| {
        let highest = (1_u32 << u32::from(field.size.min(8))) - 1;
        // A field of more than 8 bits gets its value in the upper ones.
        let value = (intensity * highest / 255) << u32::from(field.size.saturating_sub(8));
        pixel | value.checked_shl(u32::from(field.shift)).unwrap_or(0)
    })
}

/// Writes text. Without a screen, or while it is not mapped, nothing happens.
pub fn write(text: &str) {
    let Some(screen) = SCREEN.get() else { return };
    if !frame_memory::is_ready() {
        return;
    }
    for character in text.chars() {
        match character {
            '\n' => new_line(screen),
            '\r' => COLUMN.store(0, Ordering::Relaxed),
            '\t' => {
                let column = COLUMN.load(Ordering::Relaxed);
                for _ in column..(column + TAB) / TAB * TAB {
                    put(screen, b' ');
                }
            }
            _ => put(screen, u8::try_from(character).unwrap_or(b'?')),
        }
    }
}

fn put(screen: &Screen, character: u8) {
    if COLUMN.load(Ordering::Relaxed) >= screen.columns {
        new_line(screen);
    }
    let (row, column) = (ROW.load(Ordering::Relaxed), COLUMN.load(Ordering::Relaxed));
    set_cell(screen, row, column, character);
    COLUMN.store(column + 1, Ordering::Relaxed);
}

fn new_line(screen: &Screen) {
    COLUMN.store(0, Ordering::Relaxed);
    let row = ROW.load(Ordering::Relaxed) + 1;
    if row < screen.rows {
        ROW.store(row, Ordering::Relaxed);
        return;
    }
    let step = (screen.rows / SCROLL_PART).max(1);
    for row in 0..screen.rows {
        for column in 0..screen.columns {
            let from = (row + step) * screen.columns + column;
            let character = if row + step < screen.rows {
                CELLS[from].load(Ordering::Relaxed)
            } else {
                b' '
            };
            set_cell(screen, row, column, character);
        }
    }
    ROW.store(screen.rows - step, Ordering::Relaxed);
}

/// Shows a character in a cell, if another one is there.
fn set_cell(screen: &Screen, row: usize, column: usize, character: u8) {
    let Some(cell) = CELLS.get(row * screen.columns + column) else {
        return;
    };
    if cell.swap(character, Ordering::Relaxed) == character {
        return;
    }
    let raster = |character| get_raster(character, FontWeight::Regular, RasterHeight::Size16);
    let Some(glyph) = raster(char::from(character)).or_else(|| raster('?')) else {
        return;
    };
    let origin = row * CELL_HEIGHT * screen.pitch + column * CELL_WIDTH * screen.pixel_size;
    for (line, intensities) in glyph.raster().iter().enumerate() {
        let start = origin + line * screen.pitch;
        for (position, &intensity) in intensities.iter().enumerate() {
            let pixel = PIXELS[usize::from(intensity)].load(Ordering::Relaxed);
            frame_memory::write(start + position * screen.pixel_size, pixel, screen.pixel_size);
        }
    }
}
