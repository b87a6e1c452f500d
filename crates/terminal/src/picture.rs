//! Draws a code: a QR or a Code 128 picture of its digits, as SVG, as PNG or as text for a terminal.
//!
//! Deterministic and without IO: the same digits give the same bytes, and the caller writes them where it
//! wants. Nothing here checks that the digits name an issuer or carry a registration; `warifu_proto::code`
//! did that before. Code 128 carries the 24 digits only, in set C, and is not drawn as text; its encoder is
//! our own because it is a table and two loops.
//!
//! # Source
//! `docs/protocol.md` section 2 (what both symbologies carry); ISO/IEC 18004 (QR), ISO/IEC 15417 (Code 128).

use std::fmt;
use std::fmt::Write as _;
use std::iter::repeat_n;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};
use qrcode::bits::Bits;
use qrcode::{Color, EcLevel, QrCode, Version};
use warifu_proto::limits::{CODE_DIGITS, LONG_CODE_DIGITS};

#[cfg(test)]
mod tests;

/// White modules around a QR code on all four sides; ISO/IEC 18004 asks for 4.
const QR_QUIET_MODULES: usize = 4;

/// White modules left and right of a Code 128; ISO/IEC 15417 asks for 10. Nothing is asked above and below.
const CODE128_QUIET_MODULES: usize = 10;

/// Height of the bars in modules: 120 px at the default 3 px a module, a fifth of the width, so that a
/// line across a hand-held screen still crosses every bar when it is tilted by 10 degrees.
const CODE128_HEIGHT_MODULES: usize = 40;

/// Largest `module_px`. 32 is print quality (a long code is 1 824 px wide), and keeps the largest buffer,
/// Code 128 with 187 × 40 modules × 32² px × 1 byte, under 8 MB.
pub const MODULE_PX_MAX: u32 = 32;

/// How the digits become black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Symbology {
    /// A square of modules; carries 24 or 333 digits.
    Qr,
    /// A row of bars, for scanners that read lines only; carries 24 digits.
    Code128,
}

impl Symbology {
    /// Pixels a module that a phone's screen or a web page shows well: 8 for QR (232 px a side for 24
    /// digits), 3 for Code 128 (561 × 120 px).
    pub const fn default_module_px(self) -> u32 {
        match self {
            Self::Qr => 8,
            Self::Code128 => 3,
        }
    }
}

/// What tells dark from light in [`Picture::to_terminal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Colours {
    /// Black on white by escape sequences of the 256-colour palette, whose entries 16 and 231 no theme
    /// changes: scans on any terminal that shows colours, dark or light.
    Explicit,
    /// No escape sequences; right where the terminal writes light on dark, as most do.
    PlainOnDark,
    /// No escape sequences; right where the terminal or the paper shows dark on light.
    PlainOnLight,
}

/// Why a picture could not be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// Something other than ASCII digits.
    #[error("a picture can be drawn of the digits 0 to 9 only")]
    NotDigits,
    /// Neither the length of a code nor that of a long code.
    #[error("a picture is drawn of 24 or 333 digits, not of {digits}")]
    Length {
        /// How many there were.
        digits: usize,
    },
    /// Bars of 333 digits are 1 900 modules wide: no screen shows and no scanner reads them.
    #[error("a long code does not fit into a code 128, draw it as qr")]
    LongCodeAsBars,
    /// Outside `1..=`[`MODULE_PX_MAX`].
    #[error("a module is 1 to 32 pixels wide, not {module_px}")]
    ModulePx {
        /// What was asked for.
        module_px: u32,
    },
    /// Code 128 as text for a terminal.
    #[error("a code 128 cannot be drawn as text, draw it as qr")]
    BarsAsText,
}

/// A drawn code, its quiet zone included. Its modules are the secret digits, so `Debug` doesn't print them.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    symbology: Symbology,
    /// Top to bottom, each left to right, all of one length; `true` is dark.
    rows: Vec<Vec<bool>>,
    /// How many modules high each row is drawn.
    row_height: usize,
}

impl Picture {
    /// Draws the digits in one of the two symbologies: [`Picture::qr`] or [`Picture::code128`].
    ///
    /// # Errors
    /// As theirs.
    pub fn draw(symbology: Symbology, digits: &str) -> Result<Self, PictureError> {
        match symbology {
            Symbology::Qr => Self::qr(digits),
            Symbology::Code128 => Self::code128(digits),
        }
    }

    /// Draws a QR code in numeric mode.
    ///
    /// Shape: 24 digits give version 1 at level Q (21 × 21 modules, 29 × 29 with the quiet zone); 333 digits
    /// give version 8 at level M (49 × 49, 57 × 57).
    ///
    /// # Errors
    /// [`PictureError::NotDigits`], then [`PictureError::Length`].
    pub fn qr(digits: &str) -> Result<Self, PictureError> {
        // ISO/IEC 18004 table 7: version 1-Q holds 27 digits, so 24 fit and level H (17 digits) does not;
        // version 7-M holds 293 digits and 8-M 365, so 8 is the smallest for 333.
        let (version, level) = match Length::of(digits)? {
            Length::Code => (Version::Normal(1), EcLevel::Q),
            Length::LongCode => (Version::Normal(8), EcLevel::M),
        };
        let mut bits = Bits::new(version);
        let drawn = bits
            .push_numeric_data(digits.as_bytes())
            .and_then(|()| bits.push_terminator(level))
            .and_then(|()| QrCode::with_bits(bits, level))
            .expect("the version above holds that many digits");
        let side = drawn.width();
        let colours = drawn.into_colors();
        let modules =
            colours.chunks(side).map(|row| row.iter().map(|&module| module == Color::Dark));
        let rows = with_quiet_rows(modules.map(|row| with_quiet_zone(row, QR_QUIET_MODULES)));
        Ok(Self { symbology: Symbology::Qr, rows, row_height: 1 })
    }

    /// Draws the bars of a Code 128, set C, without FNC1 (that would make it a GS1 number).
    ///
    /// Shape: 24 digits only; 167 modules wide (187 with the quiet zone), 40 high.
    ///
    /// # Errors
    /// [`PictureError::NotDigits`], then [`PictureError::Length`], then [`PictureError::LongCodeAsBars`].
    pub fn code128(digits: &str) -> Result<Self, PictureError> {
        match Length::of(digits)? {
            Length::Code => {}
            Length::LongCode => return Err(PictureError::LongCodeAsBars),
        }
        let row = with_quiet_zone(bars(digits), CODE128_QUIET_MODULES);
        Ok(Self {
            symbology: Symbology::Code128,
            rows: vec![row],
            row_height: CODE128_HEIGHT_MODULES,
        })
    }

    /// What it was drawn as.
    pub fn symbology(&self) -> Symbology {
        self.symbology
    }

    /// Width in modules with the quiet zone: 29 or 57 for QR, 187 for Code 128.
    pub fn width_modules(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Height in modules with the quiet zone: 29 or 57 for QR, 40 for Code 128.
    pub fn height_modules(&self) -> usize {
        self.rows.len().saturating_mul(self.row_height)
    }

    /// Renders one `svg` element without a prolog, so that it works inline in a page and as a file.
    ///
    /// Units: one user unit is one module; `width` and `height` say the default size in px
    /// ([`Symbology::default_module_px`]) and give way to a style sheet. There is no style, no script and
    /// no name in it: it passes a strict content security policy, and the page labels it in its language.
    pub fn to_svg(&self) -> String {
        let (width, height) = (self.width_modules(), self.height_modules());
        let mut path = String::new();
        for (row, top) in self.rows.iter().zip((0_usize..).step_by(self.row_height)) {
            let mut left = 0_usize;
            for run in row.chunk_by(|a, b| a == b) {
                if run.first() == Some(&true) {
                    let (run, tall) = (run.len(), self.row_height);
                    write!(path, "M{left} {top}h{run}v{tall}h-{run}z").expect("a string grows");
                }
                left = left.saturating_add(run.len());
            }
        }
        let module_px = usize::try_from(self.symbology.default_module_px()).unwrap_or(1);
        let (width_px, height_px) =
            (width.saturating_mul(module_px), height.saturating_mul(module_px));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width_px}\" height=\"{height_px}\" shape-rendering=\"crispEdges\">\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\
             <path fill=\"#000\" d=\"{path}\"/></svg>"
        )
    }

    /// Renders a PNG file, 8-bit grey, without alpha, so that no dark page shines through.
    ///
    /// Units: `module_px` is the side of a module in pixels; [`Symbology::default_module_px`] suits screens.
    ///
    /// # Errors
    /// [`PictureError::ModulePx`] outside `1..=`[`MODULE_PX_MAX`].
    pub fn to_png(&self, module_px: u32) -> Result<Vec<u8>, PictureError> {
        if !(1..=MODULE_PX_MAX).contains(&module_px) {
            return Err(PictureError::ModulePx { module_px });
        }
        let scale = usize::try_from(module_px).expect("at most 32");
        let line_px = self.width_modules().saturating_mul(scale);
        let lines_a_row = self.row_height.saturating_mul(scale);
        let mut luma = Vec::new();
        for row in &self.rows {
            let line: Vec<u8> =
                row.iter().flat_map(|&dark| repeat_n(if dark { 0 } else { 255 }, scale)).collect();
            repeat_n(line, lines_a_row).for_each(|line| luma.extend(line));
        }
        let width = u32::try_from(line_px).expect("at most 187 modules of 32 px");
        let height = u32::try_from(self.height_modules().saturating_mul(scale))
            .expect("at most 57 modules of 32 px");
        let mut file = Vec::new();
        PngEncoder::new_with_quality(&mut file, CompressionType::Default, FilterType::NoFilter)
            .write_image(&luma, width, height, ExtendedColorType::L8)
            .expect("the buffer is width × height bytes and the file is memory");
        Ok(file)
    }

    /// Renders a QR code as lines of half blocks, two modules a character, each line ended by `\n`.
    ///
    /// Shape: 29 columns and 15 lines for 24 digits, 57 columns and 29 lines for 333. Code 128 is left out:
    /// at two modules a character its 187 modules need 94 columns, and on the usual 80 the line breaks in
    /// the middle of the bars.
    ///
    /// # Errors
    /// [`PictureError::BarsAsText`] for a Code 128.
    pub fn to_terminal(&self, colours: Colours) -> Result<String, PictureError> {
        if self.symbology == Symbology::Code128 {
            return Err(PictureError::BarsAsText);
        }
        let (before, after) = match colours {
            Colours::Explicit => ("\x1b[38;5;16;48;5;231m", "\x1b[0m\n"),
            Colours::PlainOnDark | Colours::PlainOnLight => ("", "\n"),
        };
        let inked_is_dark = match colours {
            Colours::Explicit | Colours::PlainOnLight => true,
            Colours::PlainOnDark => false,
        };
        let mut text = String::new();
        for pair in self.rows.chunks(2) {
            // The number of rows is odd: the last line's lower half is one more light row.
            let (upper, lower) = (pair.first().into_iter().flatten(), pair.get(1));
            let lower = lower.into_iter().flatten().copied().chain(std::iter::repeat(false));
            text.push_str(before);
            text.extend(upper.zip(lower).map(|(&up, low)| {
                match (up == inked_is_dark, low == inked_is_dark) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                }
            }));
            text.push_str(after);
        }
        Ok(text)
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picture").field("symbology", &self.symbology).finish_non_exhaustive()
    }
}

/// The two lengths a screen shows.
enum Length {
    Code,
    LongCode,
}

impl Length {
    fn of(digits: &str) -> Result<Self, PictureError> {
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PictureError::NotDigits);
        }
        match digits.len() {
            CODE_DIGITS => Ok(Self::Code),
            LONG_CODE_DIGITS => Ok(Self::LongCode),
            digits => Err(PictureError::Length { digits }),
        }
    }
}

/// Puts `quiet` light modules before and after a row.
fn with_quiet_zone(row: impl IntoIterator<Item = bool>, quiet: usize) -> Vec<bool> {
    repeat_n(false, quiet).chain(row).chain(repeat_n(false, quiet)).collect()
}

/// Puts the quiet zone's light rows above and below the rows of a QR code.
fn with_quiet_rows(rows: impl Iterator<Item = Vec<bool>>) -> Vec<Vec<bool>> {
    let mut rows: Vec<_> = rows.collect();
    let light = vec![false; rows.first().map_or(0, Vec::len)];
    let above = repeat_n(light.clone(), QR_QUIET_MODULES);
    rows.splice(0..0, above);
    rows.extend(repeat_n(light, QR_QUIET_MODULES));
    rows
}

/// Data symbols of Code 128 are numbered 0 to 102; the check symbol is a rest of this.
const CODE128_SYMBOLS: u32 = 103;

/// The number of the symbol that begins set C; it counts in the check symbol.
const START_C: u32 = 105;

/// The widths of the symbol that begins set C.
const START_C_WIDTHS: u32 = 211_232;

/// The widths of the symbol that ends the row: seven, where every other symbol has six.
const STOP_WIDTHS: u32 = 2_331_112;

/// Widths in modules of bar, space, bar, space, bar, space of the symbols 0 to 102, a decimal digit each;
/// they sum up to 11, and the bars alone to an even number.
const WIDTHS: [u32; 103] = [
    212_222, 222_122, 222_221, 121_223, 121_322, 131_222, 122_213, 122_312, 132_212, 221_213,
    221_312, 231_212, 112_232, 122_132, 122_231, 113_222, 123_122, 123_221, 223_211, 221_132,
    221_231, 213_212, 223_112, 312_131, 311_222, 321_122, 321_221, 312_212, 322_112, 322_211,
    212_123, 212_321, 232_121, 111_323, 131_123, 131_321, 112_313, 132_113, 132_311, 211_313,
    231_113, 231_311, 112_133, 112_331, 132_131, 113_123, 113_321, 133_121, 313_121, 211_331,
    231_131, 213_113, 213_311, 213_131, 311_123, 311_321, 331_121, 312_113, 312_311, 332_111,
    314_111, 221_411, 431_111, 111_224, 111_422, 121_124, 121_421, 141_122, 141_221, 112_214,
    112_412, 122_114, 122_411, 142_112, 142_211, 241_211, 221_114, 413_111, 241_112, 134_111,
    111_242, 121_142, 121_241, 114_212, 124_112, 124_211, 411_212, 421_112, 421_211, 212_141,
    214_121, 412_121, 111_143, 111_341, 131_141, 114_113, 114_311, 411_113, 411_311, 113_141,
    114_131, 311_141, 411_131,
];

/// The modules from the start symbol to the stop symbol, `true` for a bar: 11 × (digits / 2 + 2) + 13.
fn bars(digits: &str) -> Vec<bool> {
    let values: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let symbols: Vec<u32> = values
        .chunks(2)
        .map(|pair| {
            pair.iter()
                .fold(0_u32, |symbol, digit| symbol.saturating_mul(10).saturating_add(*digit))
        })
        .collect();
    let check = check_symbol(START_C, &symbols);
    let mut modules = Vec::new();
    push_widths(&mut modules, START_C_WIDTHS);
    for symbol in symbols.into_iter().chain([check]) {
        let widths = usize::try_from(symbol).ok().and_then(|symbol| WIDTHS.get(symbol));
        push_widths(&mut modules, *widths.expect("two digits, or a rest of 103"));
    }
    push_widths(&mut modules, STOP_WIDTHS);
    modules
}

/// The start symbol plus each symbol times its place, counted from 1, modulo 103.
fn check_symbol(start: u32, symbols: &[u32]) -> u32 {
    symbols
        .iter()
        .zip(1..)
        .fold(start, |sum, (symbol, place)| sum.saturating_add(symbol.saturating_mul(place)))
        % CODE128_SYMBOLS
}

/// Draws alternating bars and spaces, beginning with a bar.
fn push_widths(modules: &mut Vec<bool>, widths: u32) {
    let mut is_bar = true;
    for width in widths.to_string().chars().filter_map(|width| width.to_digit(10)) {
        modules.extend((0..width).map(|_| is_bar));
        is_bar = !is_bar;
    }
}
