//! Tensors on their way from one session to another, and the tickets that they wait under. Never
//! knows how a device packs them.

use std::{any::Any, fmt, str::FromStr};

use crate::Description;

/// A tensor that has left its session, and has the memory that it lies in.
pub struct Parcel {
    device: String,
    description: Description,
    bytes: u64,
    contents: Box<dyn Any + Send>,
}

impl Parcel {
    /// A tensor of a device, packed so that sessions know how to unpack it; it keeps so many bytes
    /// of memory in use.
    pub fn new(
        device: String,
        description: Description,
        bytes: u64,
        contents: Box<dyn Any + Send>,
    ) -> Self {
        Self { device, description, bytes, contents }
    }

    /// The device that it comes from.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What it is.
    pub fn description(&self) -> Description {
        self.description
    }

    /// Memory that it keeps in use.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What its session packed.
    pub fn into_contents(self) -> Box<dyn Any + Send> {
        self.contents
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.description, self.device)
    }
}

/// What an offered tensor waits under: nobody guesses it. In text 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u128);

impl Ticket {
    /// A ticket of bits that nobody knows.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(random))
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Ticket {
    /// Whoever reads logs is not to take what waits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}

impl FromStr for Ticket {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_ticket = text.len() == 32 && text.bytes().all(is_digit);
        u128::from_str_radix(text, 16).ok().filter(|_| is_ticket).map(Self).ok_or(())
    }
}

/// Why a tensor can't be offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The tenant has as many waiting as it may.
    #[error("the tenant has {limit} tensors waiting to be taken, its limit: try again later")]
    Waiting {
        /// How many it may have.
        limit: usize,
    },
    /// The tenant's sessions and tensors that wait leave it not so much memory of the device.
    #[error(
        "{needed} bytes exceed the tenant's device memory, {left} of {limit} are left: end \
         sessions, or try again later"
    )]
    Budget {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that the tenant has left.
        left: u64,
        /// Bytes that it may have together.
        limit: u64,
    },
    /// The device is full.
    #[error("{device} has no {needed} bytes left, {left} at most: try again later")]
    Busy {
        /// The device.
        device: String,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that the device has left.
        left: u64,
    },
    /// There is no secret to be had from the system.
    #[error("no ticket can be made: {reason}")]
    Ticket {
        /// What the system said.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Shape};

    #[test]
    fn tickets_survive_as_text_and_logs_show_none() {
        let ticket = Ticket::from_random([7; 16]);
        let text = ticket.to_string();
        assert_eq!((text.len(), text.parse()), (32, Ok(ticket)));
        assert_eq!(format!("{ticket:?}"), "Ticket");
        let zero = Ticket::from_random([0; 16]);
        assert_eq!(zero.to_string().parse(), Ok(zero));
        let upper = text.replace('7', "A");
        for other in ["", "7", &text[1..], &format!("{text}0"), &format!("+{}", &text[1..]), &upper]
        {
            assert_eq!(other.parse::<Ticket>(), Err(()), "{other:?}");
        }
    }

    #[test]
    fn a_parcel_shows_what_it_is() {
        let description = Description::new(Dtype::Fp32, Shape::new(&[2]).expect("a shape"));
        let parcel = Parcel::new("cpu:0".to_owned(), description, 256, Box::new(7));
        let shown = (parcel.device(), parcel.description(), parcel.bytes());
        assert_eq!(shown, ("cpu:0", description, 256));
        assert_eq!(format!("{parcel:?}"), "FP32 2 of cpu:0");
        assert_eq!(parcel.into_contents().downcast().ok(), Some(Box::new(7)));
    }

    #[test]
    fn why_nothing_is_offered_is_said() {
        let device = "cpu:0".to_owned();
        let cases = [
            (
                OfferError::Waiting { limit: 64 },
                "the tenant has 64 tensors waiting to be taken, its limit: try again later",
            ),
            (
                OfferError::Budget { needed: 3, left: 2, limit: 4 },
                "3 bytes exceed the tenant's device memory, 2 of 4 are left: end sessions, or try \
                 again later",
            ),
            (
                OfferError::Busy { device, needed: 3, left: 2 },
                "cpu:0 has no 3 bytes left, 2 at most: try again later",
            ),
            (OfferError::Ticket { reason: "no".into() }, "no ticket can be made: no"),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
