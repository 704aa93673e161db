//! The images of the digits model, those that are trained on and those that are held out.

use quern_sdk::{
    Error,
    gpu::{self, Session, Tensor},
};

/// One image a row: 64 pixels, the label, the split.
const CSV: &str = include_str!("../../digits-mlp/digits.csv");
/// Pixels per side.
pub(crate) const SIDE: u64 = 8;
/// The value of ink; paper is 0.
pub(crate) const BRIGHTEST: f32 = 16.0;

const PIXELS: usize = (SIDE * SIDE) as usize;

/// Images with their labels.
#[derive(Debug, Default)]
pub(crate) struct Digits {
    /// From 0 to 1, row by row.
    pixels: Vec<f32>,
    labels: Vec<i64>,
}

/// Images with their labels, on a device.
pub(crate) struct OnDevice {
    /// N×1×8×8.
    pub(crate) images: Tensor,
    /// N
    pub(crate) labels: Tensor,
}

impl Digits {
    /// Those to train on, and those that are held out.
    pub(crate) fn load() -> Result<(Self, Self), Error> {
        Self::parse(CSV)
    }

    fn parse(csv: &str) -> Result<(Self, Self), Error> {
        let (mut train, mut held_out) = (Self::default(), Self::default());
        for (index, line) in csv.lines().enumerate().skip(1) {
            let part = match line.rsplit_once(',') {
                Some((_, "test")) => &mut held_out,
                _ => &mut train,
            };
            part.add(line).map_err(|error| error.context(format!("line {}", index + 1)))?;
        }
        Ok((train, held_out))
    }

    fn add(&mut self, line: &str) -> Result<(), Error> {
        let cells: Vec<&str> = line.split(',').collect();
        let [pixels @ .., label, _split] = &cells[..] else {
            return Err(Error::internal("there is no label"));
        };
        if pixels.len() != PIXELS {
            return Err(Error::internal(format!("{} pixels instead of {PIXELS}", pixels.len())));
        }
        for pixel in pixels {
            self.pixels.push(pixel.parse::<f32>()? / BRIGHTEST);
        }
        self.labels.push(label.parse()?);
        Ok(())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.labels.len() as u64
    }

    pub(crate) fn upload(&self, session: &Session) -> Result<OnDevice, gpu::Error> {
        let images = session.tensor([self.count(), 1, SIDE, SIDE], &self.pixels)?;
        Ok(OnDevice { images, labels: session.tensor([self.count()], &self.labels)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_images_is_held_out() {
        let (train, held_out) = Digits::load().expect("is well-formed");
        assert_eq!((train.count(), held_out.count()), (1_437, 360));
        assert_eq!(train.pixels.len(), 1_437 * PIXELS);
        assert!(train.pixels.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
        assert!(train.labels.iter().chain(&held_out.labels).all(|label| (0..10).contains(label)));
    }

    #[test]
    fn a_line_that_is_no_image_is_named() {
        let message = |line: &str| {
            let csv = format!("header\n{line}\n");
            Digits::parse(&csv).expect_err("refused").message().to_owned()
        };
        assert_eq!(message("1"), "line 2: there is no label");
        assert_eq!(message("1,2,3,train"), "line 2: 2 pixels instead of 64");
        let bad = format!("{}x,5,test", "0,".repeat(63));
        assert_eq!(message(&bad), "line 2: invalid float literal");
    }
}
