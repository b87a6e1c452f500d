//! Reads a code out of a picture: the bytes of a PNG or JPEG file, from a camera or a screenshot.
//!
//! Deterministic and without IO. It reads QR and Code 128, dark on light or light on dark, QR at any angle
//! and Code 128 along the picture's edges only (a few degrees off are fine). It answers with digits and
//! knows nothing of issuers; what the digits mean is `warifu_proto::code`'s to say.
//!
//! Pictures come from strangers, so the cost of one is bounded in memory and in steps, whatever it shows.
//! That is why `rxing` is used by its parts: its ready-made helpers enlarge a strip of 1 × 1 000 pixels to
//! half a gigapixel, and work for minutes on a picture that is full of QR corners.
//!
//! # Source
//! `docs/protocol.md` section 2 (what both symbologies carry, what a reader accepts).

use std::collections::BTreeSet;
use std::io::Cursor;

use image::{
    DynamicImage, GrayImage, ImageDecoder as _, ImageError, ImageReader, Limits, Luma, imageops,
};
use rxing::common::{BitMatrix, DetectorRXingResult as _, HybridBinarizer};
use rxing::oned::Code128Reader;
use rxing::qrcode::cpp_port::decoder::Decode;
use rxing::qrcode::cpp_port::detector::{FindFinderPatterns, GenerateFinderPatternSets, SampleQR};
use rxing::{BinaryBitmap, DecodeHints, Luma8LuminanceSource, Reader as _};
use warifu_proto::limits::{CODE_DIGITS, LONG_CODE_DIGITS};

/// Largest file in bytes: 12 MB, what a phone's camera writes at its best quality.
pub const IMAGE_BYTES_MAX: usize = 12_000_000;

/// Most pixels, width × height: 40 megapixels, above what a phone's camera writes unless told otherwise.
pub const IMAGE_PIXELS_MAX: u64 = 40_000_000;

/// Most pixels of width or of height. The QR detector counts runs of pixels in 16 bits and panics above.
pub const IMAGE_SIDE_PX_MAX: u32 = 16_384;

/// Most bytes of a decoded picture: 40 megapixels × 4 bytes (red, green, blue, alpha). A file of 160 kB
/// can ask for that much.
const DECODED_BYTES_MAX: u64 = IMAGE_PIXELS_MAX * 4;

/// Most pixels that are searched; larger pictures are shrunk first. 5 megapixels pass a whole screenshot
/// of a phone; a camera's 12 are halved in width and height, which leaves a QR code that fills a tenth
/// of the width more pixels a module than reading needs.
const SEARCHED_PIXELS_MAX: u64 = 5_000_000;

/// Least size of a QR module in pixels. The detector's effort grows with the square of the corners it finds;
/// with this, one picture holds fewer than 20 000: 5 megapixels / (7 × 2 + 2 px)². Smaller modules are
/// read once they are enlarged.
const QR_MODULE_PX_MIN: u32 = 2;

/// Most triples of QR corners that are tried, the most plausible first. One code makes one triple, ten
/// codes side by side make some hundreds; a picture full of corners makes up to a million.
const CORNER_TRIPLES_MAX: usize = 2_000;

/// Why no digits came out of a picture. Never shows what was read: it may be a code, and codes are secret.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// More than [`IMAGE_BYTES_MAX`], [`IMAGE_PIXELS_MAX`], [`IMAGE_SIDE_PX_MAX`] or 160 MB when decoded.
    #[error(
        "the picture is larger than 12 MB, 40 megapixels or 16384 pixels a side, make it smaller"
    )]
    TooLarge,
    /// The bytes are something else, or the file is damaged.
    #[error("the file is not a readable png or jpeg picture")]
    NotAnImage(#[source] ImageError),
    /// No QR and no Code 128 that could be read, blurred or cut ones included.
    #[error("no code was found in the picture, take it closer and without reflections")]
    NoCode,
    /// Other people's codes: addresses of web pages, tickets, article numbers.
    #[error("the picture shows no payment code, but {codes} of another kind")]
    NotOurs {
        /// How many different ones were read, 1 or more.
        codes: usize,
    },
}

/// Reads the digits of a code or a long code out of the bytes of a PNG or JPEG file.
///
/// Shape: the first QR or Code 128 found whose text is exactly 24 or 333 ASCII digits once ASCII white space
/// around it is trimmed. Which one is first is not defined when the picture shows several.
/// Cost: 10 to 200 ms for usual pictures, 2 s for the worst that were tried (release build); at most 400 MB,
/// which a progressive JPEG of 40 megapixels needs. A server calls it on a thread of its own.
/// Trust: a damaged Code 128 is read wrong now and then, because its check is one symbol of 103; the issuer
/// then refuses the digits as unknown. (3 of 10 000 pictures painted over at random, no QR code among them.)
///
/// # Errors
/// [`ScanError::TooLarge`] before anything is decoded, [`ScanError::NotAnImage`], then
/// [`ScanError::NotOurs`] when something was read and [`ScanError::NoCode`] when nothing was.
pub fn digits_in_image(bytes: &[u8]) -> Result<String, ScanError> {
    let picture = decode(bytes)?;
    let mut texts = BTreeSet::new();
    if let Some(digits) = search(&picture, &mut texts) {
        return Ok(digits);
    }
    if let Some(digits) = enlarged(&picture).and_then(|larger| search(&larger, &mut texts)) {
        return Ok(digits);
    }
    match texts.len() {
        0 => Err(ScanError::NoCode),
        codes => Err(ScanError::NotOurs { codes }),
    }
}

/// The text without white space around it, when it is a code's or a long code's digits.
fn our_digits(text: &str) -> Option<String> {
    let text = text.trim_ascii();
    let is_ours = matches!(text.len(), CODE_DIGITS | LONG_CODE_DIGITS)
        && text.bytes().all(|byte| byte.is_ascii_digit());
    is_ours.then(|| text.to_owned())
}

/// Looks for dark codes on light ground, then for light ones on dark, until one is ours; adds whatever else
/// it read to `others`. It sees every QR code, but of several Code 128 only one.
fn search(picture: &GrayImage, others: &mut BTreeSet<String>) -> Option<String> {
    let (width, height) = picture.dimensions();
    // An error would mean that there are not width × height bytes; `GrayImage` promises that there are.
    let luma = Luma8LuminanceSource::new(picture.as_raw().clone(), width, height).ok()?;
    let mut bitmap = BinaryBitmap::new(HybridBinarizer::new(luma));
    // With "try harder" it looks along the columns as well, and at 256 rows rather than at 15.
    let hints = DecodeHints { TryHarder: Some(true), ..DecodeHints::default() };
    for _dark_then_light in 0..2 {
        let mut texts = qr_texts(bitmap.get_black_matrix());
        if let Ok(bars) = Code128Reader.decode_with_hints(&mut bitmap, &hints) {
            texts.insert(bars.getText().to_owned());
        }
        if let Some(digits) = texts.iter().find_map(|text| our_digits(text)) {
            return Some(digits);
        }
        others.append(&mut texts);
        bitmap.invert();
    }
    None
}

/// Every QR code among the most plausible triples of corners.
fn qr_texts(modules: &BitMatrix) -> BTreeSet<String> {
    let mut corners = FindFinderPatterns(modules, true, QR_MODULE_PX_MIN);
    let triples = GenerateFinderPatternSets(&mut corners);
    let sampled = triples.iter().take(CORNER_TRIPLES_MAX).filter_map(|triple| {
        let sampled = SampleQR(modules, triple).ok()?;
        let read = Decode(sampled.getBits()).ok()?;
        read.isValid().then(|| read.text())
    });
    sampled.collect()
}

/// Decodes a file to shades of grey of at most [`SEARCHED_PIXELS_MAX`], refusing it by its header when it
/// would be too large.
fn decode(bytes: &[u8]) -> Result<GrayImage, ScanError> {
    if bytes.len() > IMAGE_BYTES_MAX {
        return Err(ScanError::TooLarge);
    }
    let format = image::guess_format(bytes).map_err(ScanError::NotAnImage)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(IMAGE_SIDE_PX_MAX);
    limits.max_image_height = Some(IMAGE_SIDE_PX_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(image_error)?;
    let (width, height) = decoder.dimensions();
    if pixels(width, height) > IMAGE_PIXELS_MAX || decoder.total_bytes() > DECODED_BYTES_MAX {
        return Err(ScanError::TooLarge);
    }
    let picture = on_white(DynamicImage::from_decoder(decoder).map_err(image_error)?);
    // A whole divisor keeps the bars of a Code 128 equally wide. 3 is enough: 40 / 3² < 5.
    let divisor =
        (1..3).find(|n| pixels(width / n, height / n) <= SEARCHED_PIXELS_MAX).unwrap_or(3);
    Ok(match divisor {
        1 => picture,
        n => imageops::thumbnail(&picture, width / n, height / n),
    })
}

fn image_error(error: ImageError) -> ScanError {
    // No arm for every kind: the enum belongs to another crate and may grow.
    if matches!(error, ImageError::Limits(_)) {
        ScanError::TooLarge
    } else {
        ScanError::NotAnImage(error)
    }
}

fn pixels(width: u32, height: u32) -> u64 {
    u64::from(width).saturating_mul(u64::from(height))
}

/// The picture three times or twice as wide and high, as far as it may still be searched: modules of few
/// pixels, slanted or blurred ones above all, are told apart better when they are interpolated.
fn enlarged(picture: &GrayImage) -> Option<GrayImage> {
    let (width, height) = [3, 2].into_iter().find_map(|times| {
        let width = picture.width().checked_mul(times)?;
        let height = picture.height().checked_mul(times)?;
        let fits =
            width.max(height) <= IMAGE_SIDE_PX_MAX && pixels(width, height) <= SEARCHED_PIXELS_MAX;
        fits.then_some((width, height))
    })?;
    Some(imageops::resize(picture, width, height, imageops::CatmullRom))
}

/// Puts the picture on white paper. The colour of transparent pixels is mostly black, which would swallow
/// a code saved with a transparent ground.
fn on_white(picture: DynamicImage) -> GrayImage {
    if !picture.color().has_alpha() {
        return picture.into_luma8();
    }
    let with_alpha = picture.into_luma_alpha8();
    GrayImage::from_fn(with_alpha.width(), with_alpha.height(), |x, y| {
        let [luma, alpha] = with_alpha.get_pixel(x, y).0;
        Luma([if alpha < 128 { 255 } else { luma }])
    })
}
