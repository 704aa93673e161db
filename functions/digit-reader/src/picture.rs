//! Decodes PNGs of every colour type into luminance. Never allocates more than the header allows.

use std::io::Cursor;

use png::{ColorType, Decoder, Limits, Transformations};
use quern_sdk::{Error, ErrorKind};

/// Most pixels of a picture.
const MAX_PIXELS: u64 = 4 << 20;

/// Most bytes that the decoder may hold beside the picture itself.
const MAX_DECODER_BYTES: usize = 16 << 20;

/// Luminance, row by row, from 0 (black) to 255 (white). At least one pixel.
#[derive(Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) luminance: Vec<u8>,
}

/// Decodes a PNG. What is transparent shows white paper.
pub(crate) fn decode(png: &[u8]) -> Result<Picture, Error> {
    let limits = Limits { bytes: MAX_DECODER_BYTES };
    let mut decoder = Decoder::new_with_limits(Cursor::new(png), limits);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let (width, height) = decoder.read_header_info().map_err(not_a_picture)?.size();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        let message =
            format!("the picture has {width}×{height} pixels: at most {MAX_PIXELS} are read");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let mut reader = decoder.read_info().map_err(not_a_picture)?;
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| Error::invalid_input("the picture's size does not fit"))?;
    let mut bytes = vec![0; size];
    let frame = reader.next_frame(&mut bytes).map_err(not_a_picture)?;
    bytes.truncate(frame.buffer_size());
    Ok(Picture {
        width: frame.width as usize,
        height: frame.height as usize,
        luminance: luminance(&bytes, frame.color_type)?,
    })
}

fn not_a_picture(error: png::DecodingError) -> Error {
    Error::invalid_input(format!("the body is not a PNG that can be read: {error}"))
}

/// Luminance after Rec. 601, on the values as they are stored.
fn luminance(bytes: &[u8], color: ColorType) -> Result<Vec<u8>, Error> {
    Ok(match color {
        ColorType::Grayscale => bytes.to_vec(),
        ColorType::GrayscaleAlpha => {
            bytes.as_chunks().0.iter().map(|[gray, alpha]| over_white(*gray, *alpha)).collect()
        }
        ColorType::Rgb => bytes.as_chunks().0.iter().map(|rgb| gray(*rgb)).collect(),
        ColorType::Rgba => bytes
            .as_chunks()
            .0
            .iter()
            .map(|[red, green, blue, alpha]| over_white(gray([*red, *green, *blue]), *alpha))
            .collect(),
        ColorType::Indexed => return Err(Error::internal("a palette was left unexpanded")),
    })
}

fn gray([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    ((sum + 500) / 1000) as u8
}

fn over_white(luminance: u8, alpha: u8) -> u8 {
    let darkness = u32::from(255 - luminance) * u32::from(alpha);
    255 - ((darkness + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use png::BitDepth;

    use super::*;

    fn encode(color: ColorType, depth: BitDepth, size: (u32, u32), bytes: &[u8]) -> Vec<u8> {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, size.0, size.1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            encoder.set_palette(vec![255, 255, 255, 0, 0, 0]);
        }
        let mut writer = encoder.write_header().expect("a valid header");
        writer.write_image_data(bytes).expect("as many bytes as the header says");
        writer.finish().expect("written to memory");
        png
    }

    #[test]
    fn every_colour_type_becomes_luminance() {
        let cases: &[(ColorType, BitDepth, &[u8])] = &[
            (ColorType::Grayscale, BitDepth::One, &[0b0100_0000]),
            (ColorType::Grayscale, BitDepth::Eight, &[0, 255]),
            (ColorType::Grayscale, BitDepth::Sixteen, &[0, 0, 255, 255]),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, &[0, 255, 0, 0]),
            (ColorType::Rgb, BitDepth::Eight, &[0, 0, 0, 255, 255, 255]),
            (ColorType::Rgb, BitDepth::Sixteen, &[0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255]),
            (ColorType::Rgba, BitDepth::Eight, &[0, 0, 0, 255, 7, 7, 7, 0]),
            (ColorType::Indexed, BitDepth::Eight, &[1, 0]),
            (ColorType::Indexed, BitDepth::One, &[0b1000_0000]),
        ];
        for (color, depth, bytes) in cases {
            let picture = decode(&encode(*color, *depth, (2, 1), bytes)).expect("a valid PNG");
            let expected = Picture { width: 2, height: 1, luminance: vec![0, 255] };
            assert_eq!(picture, expected, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn colours_are_weighted_and_laid_over_white() {
        let cases = [([255, 0, 0, 255], 76), ([0, 255, 0, 255], 150), ([0, 0, 0, 51], 204)];
        for (rgba, expected) in cases {
            let png = encode(ColorType::Rgba, BitDepth::Eight, (1, 1), &rgba);
            assert_eq!(decode(&png).expect("a valid PNG").luminance, [expected], "{rgba:?}");
        }
    }

    #[test]
    fn what_is_not_a_picture_is_the_callers_fault() {
        let whole = encode(ColorType::Grayscale, BitDepth::Eight, (8, 8), &[9; 64]);
        let mut corrupt = whole.clone();
        let middle = corrupt.len() - 20;
        corrupt[middle] ^= 0xff;
        let cases: [(&str, &[u8]); 5] = [
            ("nothing", b""),
            ("text", b"hello"),
            ("header only", &whole[..33]),
            ("broken off", &whole[..whole.len() - 16]),
            ("corrupt", &corrupt),
        ];
        for (name, bytes) in cases {
            let error = decode(bytes).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
            assert!(error.message().starts_with("the body is not a PNG"), "{name}: {error}");
        }
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused_before_anything_is_decoded() {
        let mut png = encode(ColorType::Grayscale, BitDepth::Eight, (1, 1), &[0]);
        png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let checksum = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&checksum.to_be_bytes());
        let error = decode(&png).expect_err("3.6 billion pixels");
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }
}
