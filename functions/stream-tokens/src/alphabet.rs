//! What the model knows of a text: the last letters, as their places in its alphabet.

use quern_sdk::Error;

/// In the model's order; see functions/next-letter.
const ALPHABET: [char; 30] = [
    '\n', ' ', ',', '.', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z',
];

/// The end of a text.
pub(crate) struct Context([usize; Context::LENGTH]);

impl Context {
    /// Letters that the model looks at.
    pub(crate) const LENGTH: usize = 8;

    /// The end of this text. What is not in the alphabet is taken for a blank.
    pub(crate) fn of(text: &str) -> Self {
        let mut context = Self([0; Self::LENGTH]);
        for letter in text.chars().flat_map(char::to_lowercase) {
            let place = ALPHABET.iter().position(|known| *known == letter);
            context.shift(place.unwrap_or(1));
        }
        context
    }

    /// As the model takes it.
    pub(crate) fn numbers(&self) -> [i64; Self::LENGTH] {
        self.0.map(|place| place as i64)
    }

    /// Adds a letter by its place; the letter.
    pub(crate) fn push(&mut self, place: usize) -> Result<char, Error> {
        let letter = ALPHABET.get(place);
        let letter = letter.ok_or_else(|| Error::internal("the model has another alphabet"))?;
        self.shift(place);
        Ok(*letter)
    }

    fn shift(&mut self, place: usize) {
        self.0.rotate_left(1);
        self.0[Self::LENGTH - 1] = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_the_end_of_a_text() {
        for (text, numbers) in [
            ("", [0; 8]),
            ("ab", [0, 0, 0, 0, 0, 0, 4, 5]),
            ("The mill. Zoë", [12, 15, 15, 3, 1, 29, 18, 1]),
        ] {
            assert_eq!(Context::of(text).numbers(), numbers, "{text:?}");
        }
    }

    #[test]
    fn a_letter_pushes_the_oldest_one_out() -> Result<(), Error> {
        let mut context = Context::of("abcdefgh");
        assert_eq!(context.push(29)?, 'z');
        assert_eq!(context.numbers(), [5, 6, 7, 8, 9, 10, 11, 29]);
        assert!(context.push(30).is_err());
        Ok(())
    }
}
