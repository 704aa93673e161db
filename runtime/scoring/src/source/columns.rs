//! The columns of a file by their names, found fast by whoever asks for them in order.

use std::{cell::Cell, collections::HashMap};

/// The names of columns, in order.
#[derive(Debug, Default)]
pub(super) struct Columns {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

/// Where a column is looked for first.
#[derive(Debug, Default)]
pub(super) struct Expected(Cell<usize>);

impl Columns {
    /// Adds a column; false if one of its name is there, which it then takes the place of.
    pub(super) fn add(&mut self, name: &str) -> bool {
        let before = self.places.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        before.is_none()
    }

    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// Where a column is; mostly it is the one after that which was asked for last.
    pub(super) fn place(&self, name: &str, expected: &Expected) -> Option<usize> {
        let place = match self.names.get(expected.0.get()) {
            Some(other) if other == name => expected.0.get(),
            _ => *self.places.get(name)?,
        };
        expected.0.set(place + 1);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_in_any_order() {
        let mut columns = Columns::default();
        assert!(columns.add("a") && columns.add("b") && !columns.add("a"));
        assert_eq!((columns.count(), columns.has("b"), columns.has("c")), (3, true, false));
        let expected = Expected::default();
        for (name, place) in [("b", Some(1)), ("a", Some(2)), ("c", None), ("b", Some(1))] {
            assert_eq!(columns.place(name, &expected), place, "{name}");
        }
        assert_eq!(columns.place("a", &Expected::default()), Some(0));
    }
}
