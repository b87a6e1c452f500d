use super::*;

const CODE: &str = "710000010312345678901234";

fn long_code() -> String {
    format!("{CODE}{}", "0123456789".repeat(31).split_at(309).0)
}

#[track_caller]
fn check(symbology: Symbology, digits: &str, want: Result<(usize, usize), PictureError>) {
    let drawn = Picture::draw(symbology, digits);
    assert_eq!(drawn.map(|picture| (picture.width_modules(), picture.height_modules())), want);
}

#[test]
fn sizes_and_errors_in_order() {
    let long = long_code();
    check(Symbology::Qr, CODE, Ok((21 + 8, 21 + 8)));
    check(Symbology::Qr, "000000000000000000000000", Ok((29, 29)));
    check(Symbology::Qr, &long, Ok((49 + 8, 49 + 8)));
    check(Symbology::Code128, CODE, Ok((167 + 20, 40)));

    for symbology in [Symbology::Qr, Symbology::Code128] {
        check(symbology, "7100000103123456789012x", Err(PictureError::NotDigits)); // length as well
        check(symbology, "71000001031234567890123 ", Err(PictureError::NotDigits));
        check(symbology, "７１００００01", Err(PictureError::NotDigits)); // 24 bytes, wide digits
        check(symbology, "", Err(PictureError::Length { digits: 0 }));
        check(symbology, &CODE[1..], Err(PictureError::Length { digits: 23 }));
        check(symbology, &long[1..], Err(PictureError::Length { digits: 332 }));
    }
    check(Symbology::Code128, &long, Err(PictureError::LongCodeAsBars));
}

#[test]
fn a_long_code_needs_version_8() {
    let digits = long_code();
    let mut bits = Bits::new(Version::Normal(7));
    bits.push_numeric_data(digits.as_bytes()).unwrap();
    assert!(bits.push_terminator(EcLevel::M).is_err());
}

#[test]
fn quiet_zones_are_light() {
    let qr = Picture::qr(CODE).unwrap();
    let inner: Vec<_> = qr.rows[4..25].iter().map(|row| &row[4..25]).collect();
    let dark = |rows: &[&[bool]]| rows.iter().flat_map(|row| row.iter()).filter(|&&d| d).count();
    let all: Vec<_> = qr.rows.iter().map(Vec::as_slice).collect();
    assert_eq!(dark(&all), dark(&inner));
    assert!(inner[0][..7].iter().all(|&d| d), "the finder's edge is at the quiet zone's");

    let bars = Picture::code128(CODE).unwrap();
    let row = &bars.rows[0];
    assert!(row[..10].iter().chain(&row[177..]).all(|&d| !d));
    assert!(row[10] && row[176]);
}

#[test]
fn png_is_grey_and_as_large_as_asked() {
    let png = |symbology, module_px| {
        let file = Picture::draw(symbology, CODE).unwrap().to_png(module_px)?;
        let image = image::load_from_memory(&file).unwrap();
        assert_eq!(image.color(), image::ColorType::L8);
        Ok((image.width(), image.height()))
    };
    assert_eq!(png(Symbology::Qr, Symbology::Qr.default_module_px()), Ok((232, 232)));
    assert_eq!(png(Symbology::Code128, Symbology::Code128.default_module_px()), Ok((561, 120)));
    assert_eq!(png(Symbology::Qr, 1), Ok((29, 29)));
    assert_eq!(png(Symbology::Code128, 32), Ok((5_984, 1_280)));
    assert_eq!(png(Symbology::Qr, 0), Err(PictureError::ModulePx { module_px: 0 }));
    assert_eq!(png(Symbology::Qr, 33), Err(PictureError::ModulePx { module_px: 33 }));
}

#[test]
fn png_shows_the_modules() {
    let picture = Picture::qr(CODE).unwrap();
    let image = image::load_from_memory(&picture.to_png(3).unwrap()).unwrap().into_luma8();
    for (x, y, pixel) in image.enumerate_pixels() {
        let is_dark = picture.rows[y as usize / 3][x as usize / 3];
        assert_eq!(pixel.0[0], if is_dark { 0 } else { 255 }, "at {x}, {y}");
    }
}

#[test]
fn svg_has_a_white_ground_and_one_rectangle_a_run() {
    let svg = Picture::code128(CODE).unwrap().to_svg();
    assert!(svg.starts_with(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 187 40\" width=\"561\" \
         height=\"120\" shape-rendering=\"crispEdges\"><rect width=\"187\" height=\"40\" \
         fill=\"#fff\"/><path fill=\"#000\" d=\"M10 0h2v40h-2zM13 0h1v40h-1z"
    ));
    assert!(svg.ends_with("z\"/></svg>"));
    assert_eq!(svg.matches('M').count(), 3 * 14 + 4, "three bars a symbol, four in the stop");
    assert!(!svg.contains(CODE));

    let svg = Picture::qr(CODE).unwrap().to_svg();
    assert!(svg.contains("viewBox=\"0 0 29 29\" width=\"232\" height=\"232\""));
    assert!(svg.contains("d=\"M4 4h7v1h-7z"), "the finder's upper edge: {svg}");
}

#[test]
fn terminal_text_shows_the_modules() {
    let picture = Picture::qr(CODE).unwrap();
    let light_row = " ".repeat(29);
    for (colours, before, after, inked_is_dark) in [
        (Colours::Explicit, "\x1b[38;5;16;48;5;231m", "\x1b[0m", true),
        (Colours::PlainOnLight, "", "", true),
        (Colours::PlainOnDark, "", "", false),
    ] {
        let text = picture.to_terminal(colours).unwrap();
        let mut rows = Vec::new();
        for line in text.lines() {
            let line = line.strip_prefix(before).unwrap().strip_suffix(after).unwrap();
            assert_eq!(line.chars().count(), 29);
            let half = |inked: [char; 2]| {
                line.chars().map(|c| inked.contains(&c) == inked_is_dark).collect::<Vec<_>>()
            };
            rows.push(half(['█', '▀']));
            rows.push(half(['█', '▄']));
        }
        assert_eq!(rows.pop(), Some(vec![false; 29]), "one light row more");
        assert!(rows == picture.rows, "{colours:?}:\n{text}");
        assert_eq!(text.contains(&light_row), inked_is_dark);
    }
    let bars = Picture::code128(CODE).unwrap();
    assert_eq!(bars.to_terminal(Colours::Explicit), Err(PictureError::BarsAsText));
}

#[test]
fn debug_keeps_the_digits_secret() {
    let shown = format!("{:?}", Picture::qr(CODE).unwrap());
    assert_eq!(shown, "Picture { symbology: Qr, .. }");
}

#[test]
fn check_symbols_known_from_elsewhere() {
    // "PJJ123C" in set A, the worked example in the encyclopedias.
    assert_eq!(check_symbol(103, &[48, 42, 42, 17, 18, 19, 35]), 54);
    // By hand: 105 + 12 + 68 + 168 + 312 + 450 + 72 + 238 + 448 + 702 + 900 + 132 + 408 = 4 015.
    assert_eq!(check_symbol(START_C, &[12, 34, 56, 78, 90, 12, 34, 56, 78, 90, 12, 34]), 101);
    assert_eq!(check_symbol(START_C, &[0; 12]), 2);
}

#[test]
fn every_symbol_is_eleven_modules_with_even_bars_and_none_is_there_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for widths in WIDTHS.into_iter().chain([START_C_WIDTHS]) {
        let mut drawn = Vec::new();
        push_widths(&mut drawn, widths);
        assert_eq!(drawn.len(), 11, "{widths}");
        assert_eq!(drawn.iter().filter(|&&is_bar| is_bar).count() % 2, 0, "{widths}");
        assert_eq!(widths.to_string().len(), 6);
        assert!(seen.insert(widths), "{widths} is there twice");
    }
}

#[test]
fn bars_run_from_start_to_stop() {
    let drawn = bars("000000000000000000000000");
    assert_eq!(drawn.len(), 11 * (12 + 2) + 13);
    let text: String = drawn.iter().map(|&is_bar| if is_bar { '1' } else { '0' }).collect();
    assert!(text.starts_with("1101001110011011001100"), "start C, then 00: {text}");
    assert!(text.ends_with("110011001101100011101011"), "check symbol 2, then stop: {text}");
}
