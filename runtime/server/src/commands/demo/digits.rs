//! The held-out images of the digits set, as the PNGs that a user would send. Never downloads.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;

/// Pixels per side in the set.
const SIDE: usize = 8;
/// Every pixel becomes a square of so many pixels per side.
const SCALE: usize = 8;
/// The darkest value in the set.
const INK: u8 = 16;

/// One image with its true digit.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) label: u8,
    /// 64 values from 0 to 16.
    pub(super) pixels: Vec<u8>,
    pub(super) png: Bytes,
}

/// The rows of `digits.csv` whose split is `test`.
pub(super) fn held_out(csv: &str) -> Result<Vec<Image>> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let position = header.iter().position(|column| *column == name);
        position.with_context(|| format!("there is no column {name:?}"))
    };
    let pixels = (0..SIDE * SIDE).map(|index| column(&format!("pixel{index}")));
    let pixels = pixels.collect::<Result<Vec<_>>>()?;
    let (label, split) = (column("label")?, column("split")?);
    let mut images = Vec::new();
    for (index, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        ensure!(cells.len() == header.len(), "line {}: wrong number of cells", index + 2);
        if cells[split] == "test" {
            let image = image(&cells, &pixels, label);
            images.push(image.with_context(|| format!("line {}", index + 2))?);
        }
    }
    ensure!(!images.is_empty(), "no row has the split \"test\"");
    Ok(images)
}

fn image(cells: &[&str], pixels: &[usize], label: usize) -> Result<Image> {
    let value = |column: &usize| -> Result<u8> {
        let value = cells[*column].parse()?;
        ensure!(value <= INK, "a pixel is {value}, above {INK}");
        Ok(value)
    };
    let pixels = pixels.iter().map(value).collect::<Result<Vec<u8>>>()?;
    let png = encode(&pixels)?;
    Ok(Image { label: cells[label].parse()?, pixels, png })
}

/// A grey PNG, enlarged without smoothing.
fn encode(pixels: &[u8]) -> Result<Bytes> {
    let side = SIDE * SCALE;
    let grey = |position: usize| {
        let (row, column) = (position / side / SCALE, position % side / SCALE);
        u8::try_from(u16::from(pixels[row * SIDE + column]) * 255 / u16::from(INK))
            .expect("16 of 16 parts of 255 are 255")
    };
    let enlarged: Vec<u8> = (0..side * side).map(grey).collect();
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, u32::try_from(side)?, u32::try_from(side)?);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&enlarged)?;
    writer.finish()?;
    Ok(png.into())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn csv(rows: &[&str]) -> String {
        let mut header: Vec<String> = (0..64).map(|index| format!("pixel{index}")).collect();
        header.extend(["label".into(), "split".into()]);
        format!("{}\n{}\n", header.join(","), rows.join("\n"))
    }

    fn row(pixel: &str, label: &str, split: &str) -> String {
        format!("{pixel},{}{label},{split}", "16,".repeat(63))
    }

    #[test]
    fn held_out_rows_become_images() {
        let (train, test) = (row("0", "3", "train"), row("0", "7", "test"));
        let images = held_out(&csv(&[&train, &test])).expect("valid");
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].label, 7);
        let mut reader = png::Decoder::new(Cursor::new(&images[0].png)).read_info().expect("a PNG");
        let mut pixels = vec![0; 64 * 64];
        let frame = reader.next_frame(&mut pixels).expect("a frame");
        assert_eq!((frame.width, frame.height), (64, 64));
        assert_eq!((pixels[0], pixels[7 * 64 + 7], pixels[8]), (0, 0, 255));
    }

    #[test]
    fn bad_files_are_refused_with_the_line() {
        let (bright, short) = (row("17", "3", "test"), "1,2,3".to_owned());
        let train = row("0", "3", "train");
        let cases = [
            (csv(&[&bright]), "line 2"),
            (csv(&[&train, &short]), "line 3"),
            (csv(&[&train]), "no row"),
            ("a,b\n".into(), "no column"),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", held_out(&text).expect_err(expected));
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
