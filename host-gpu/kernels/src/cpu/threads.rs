//! Work on several processors: a slice of results is cut into chunks, the same ones however many
//! threads there are, so that results never depend on that.

use std::{
    cell::Cell,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

/// Elements from which on a second thread pays.
const SERIAL: usize = 1 << 16;

/// Elements that a thread takes at a time.
pub(super) const GRAIN: usize = 1 << 15;

/// Results that exist at a time before they are joined.
const JOINED: usize = 256;

/// Results that are computed together, line by line.
pub(super) trait Divide: Send + Sized {
    /// How many lines there are.
    fn count(&self) -> usize;
    /// The lines before one, and those from there on.
    fn divide(self, line: usize) -> (Self, Self);
}

/// Lines of one result, all of one length.
pub(super) struct Lines<'a, T> {
    pub(super) elements: &'a mut [T],
    length: usize,
}

impl<'a, T> Lines<'a, T> {
    pub(super) fn new(elements: &'a mut [T], length: usize) -> Self {
        Self { elements, length }
    }
}

impl<T: Send> Divide for Lines<'_, T> {
    fn count(&self) -> usize {
        self.elements.len() / self.length
    }

    fn divide(self, line: usize) -> (Self, Self) {
        let length = self.length;
        let (before, after) = self.elements.split_at_mut(line * length);
        (Self { elements: before, length }, Self { elements: after, length })
    }
}

impl<A: Divide, B: Divide> Divide for (A, B) {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn divide(self, line: usize) -> (Self, Self) {
        let ((first, third), (second, fourth)) = (self.0.divide(line), self.1.divide(line));
        ((first, second), (third, fourth))
    }
}

impl<L: Divide, const N: usize> Divide for [L; N] {
    fn count(&self) -> usize {
        self.first().map_or(0, Divide::count)
    }

    fn divide(self, line: usize) -> (Self, Self) {
        let mut after = Vec::with_capacity(N);
        let before = self.map(|lines| {
            let (before, rest) = lines.divide(line);
            after.push(rest);
            before
        });
        let mut after = after.into_iter();
        (before, std::array::from_fn(|_| after.next().expect("as many as before")))
    }
}

thread_local! {
    /// Whether this thread computes without the others.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Has the CPU device compute on the caller's thread alone, so that it waits for no other thread,
/// which may be busy with something long. Without effect on other devices.
pub fn alone<R>(run: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    run()
}

/// The threads of a device.
pub(super) struct Threads {
    pool: rayon::ThreadPool,
}

impl Threads {
    pub(super) fn new(count: NonZeroUsize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count.get())
            .thread_name(|number| format!("kernel-{number}"))
            .build()?;
        Ok(Self { pool })
    }

    /// How many may compute what this thread asks for.
    pub(super) fn count(&self) -> usize {
        if ALONE.get() { 1 } else { self.pool.current_num_threads() }
    }

    /// Runs something on the threads alone, so that what it starts in turn is theirs, too.
    pub(super) fn install<R: Send>(&self, run: impl FnOnce() -> R + Send) -> R {
        if ALONE.get() { run() } else { self.pool.install(run) }
    }

    /// Runs on chunks of `out`, each with its first index. `cost` is how many elements are read
    /// for one that is written.
    pub(super) fn chunks<T: Send>(
        &self,
        out: &mut [T],
        cost: usize,
        run: impl Fn(usize, &mut [T]) + Sync,
    ) {
        self.rows(out, 1, cost, run);
    }

    /// The same with chunks of whole rows, each with the number of its first. The last row may be
    /// shorter than the others; `cost` is still that of an element.
    pub(super) fn rows<T: Send>(
        &self,
        out: &mut [T],
        length: usize,
        cost: usize,
        run: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let (length, cost) = (length.max(1), cost.max(1));
        let few = out.len() <= length || out.len().saturating_mul(cost) <= SERIAL;
        if few || self.count() == 1 {
            return run(0, out);
        }
        let grain = (GRAIN / length.saturating_mul(cost)).max(1);
        let chunks = out.chunks_mut(grain * length).enumerate();
        self.share(chunks, |(number, chunk)| run(number * grain, chunk));
    }

    /// Runs on chunks of whole lines of several results at once, each with the number of its first
    /// line. `cost` is how many elements are read for a line.
    pub(super) fn together<L: Divide>(&self, lines: L, cost: usize, run: impl Fn(usize, L) + Sync) {
        let (count, cost) = (lines.count(), cost.max(1));
        if count <= 1 || count.saturating_mul(cost) <= SERIAL || self.count() == 1 {
            return run(0, lines);
        }
        let grain = (GRAIN / cost).max(1);
        let mut rest = Some(lines);
        let chunks = (0..count).step_by(grain).filter_map(move |start| {
            let lines = rest.take()?;
            if lines.count() <= grain {
                return Some((start, lines));
            }
            let (now, later) = lines.divide(grain);
            rest = Some(later);
            Some((start, now))
        });
        self.share(chunks, |(start, lines)| run(start, lines));
    }

    /// What is made of each number below `count`, joined in order; only a few results exist at a
    /// time.
    pub(super) fn join<R: Send>(
        &self,
        count: usize,
        first: R,
        make: impl Fn(usize) -> R + Sync + Send,
        join: impl Fn(R, R) -> R,
    ) -> R {
        if count <= 1 || self.count() == 1 {
            return (0..count).map(make).fold(first, join);
        }
        (0..count).step_by(JOINED).fold(first, |joined, begin| {
            let some = begin..(begin + JOINED).min(count);
            let mut results: Vec<_> = some.clone().map(|_| None).collect();
            self.share(results.iter_mut().zip(some), |(result, number)| {
                *result = Some(make(number));
            });
            results.into_iter().flatten().fold(joined, &join)
        })
    }

    /// Runs on each piece of work: this thread takes one after another and so do others, as soon
    /// as they have woken up.
    fn share<W: Send>(&self, pieces: impl Iterator<Item = W> + Send, run: impl Fn(W) + Sync) {
        let most = pieces.size_hint().1.unwrap_or(usize::MAX);
        let pieces = Mutex::new(pieces);
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(piece) = next() {
                run(piece);
            }
        };
        self.pool.in_place_scope(|scope| {
            (1..self.count().min(most)).for_each(|_| scope.spawn(|_| work()));
            work();
        });
    }

    /// Copies bytes of the same length.
    pub(super) fn copy(&self, from: &[u8], to: &mut [u8]) {
        self.chunks(to, 1, |start, chunk| chunk.copy_from_slice(&from[start..][..chunk.len()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_computed_alone_stays_on_its_thread() {
        let threads = Threads::new(NonZeroUsize::new(2).expect("two")).expect("threads");
        let here = std::thread::current().id();
        let id = || std::thread::current().id();
        assert_eq!(alone(|| (threads.count(), threads.install(id))), (1, here));
        let failed = std::panic::catch_unwind(|| alone(|| panic!("a kernel fails")));
        assert!(failed.is_err());
        assert_eq!(threads.count(), 2, "only while it runs");
        assert_ne!(threads.install(id), here);
    }
}
