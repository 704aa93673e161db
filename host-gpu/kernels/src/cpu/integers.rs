//! Inputs of INT32 or INT64 that say where to look. They never change, so that they can be checked
//! first and read again, block by block, without a copy of them all.

use super::{
    launch::Launch,
    source::Source,
    vector::{self, BLOCK},
};
use bytemuck::Pod;
use quern_operators::{Description, Dtype};

/// An input of integers.
pub(super) struct Integers<'a> {
    elements: Elements<'a>,
    count: usize,
}

enum Elements<'a> {
    Int32(Source<'a, i32>),
    Int64(Source<'a, i64>),
}

impl<'a> Integers<'a> {
    pub(super) fn new(launch: &Launch<'a>, input: usize) -> Self {
        let Description { dtype, shape } = launch.description(input);
        let elements = match dtype {
            Dtype::Int32 => Elements::Int32(launch.source(input)),
            _ => Elements::Int64(launch.source(input)),
        };
        Self { elements, count: shape.elements() as usize }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// An error if one of them is not as it should be.
    pub(super) fn check<E>(&self, check: impl Fn(i64) -> Result<(), E>) -> Result<(), E> {
        let mut some = Vec::new();
        for begin in (0..self.count).step_by(BLOCK) {
            self.read(begin, &mut some);
            some.iter().try_for_each(|integer| check(*integer))?;
        }
        Ok(())
    }

    /// Looks at one after another.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { integers: self, block: usize::MAX, read: Vec::new() }
    }

    fn read(&self, begin: usize, into: &mut Vec<i64>) {
        let length = (self.count - begin).min(BLOCK);
        match &self.elements {
            Elements::Int32(source) => widen(source, begin, length, into),
            Elements::Int64(source) => widen(source, begin, length, into),
        }
    }
}

fn widen<T: Pod + Into<i64>>(source: &Source<T>, begin: usize, length: usize, into: &mut Vec<i64>) {
    let mut elements = vector::block::<T>();
    source.copy(begin, &mut elements[..length]);
    into.clear();
    into.extend(elements[..length].iter().map(|element| (*element).into()));
}

/// The block of integers that was looked at last.
pub(super) struct Cursor<'a> {
    integers: &'a Integers<'a>,
    block: usize,
    read: Vec<i64>,
}

impl Cursor<'_> {
    pub(super) fn get(&mut self, position: usize) -> i64 {
        let block = position / BLOCK;
        if block != self.block {
            self.integers.read(block * BLOCK, &mut self.read);
            self.block = block;
        }
        self.read[position % BLOCK]
    }
}
