//! Elements from one place to another, unchanged: all that is known of them is their size.

use bytemuck::Pod;

use super::{
    launch::{Launch, with_bytes},
    source::Source,
    threads::Threads,
    turned::Turned,
};
use quern_operators::Shape;

/// The first input, its elements one after another.
pub(super) fn copy(launch: &Launch, out: &mut [u8]) {
    with_bytes!(launch.description(0).dtype, T => {
        copy_elements(launch.threads, &launch.source::<T>(0), bytemuck::cast_slice_mut(out));
    });
}

fn copy_elements<T: Pod + Send + Sync>(threads: &Threads, source: &Source<T>, out: &mut [T]) {
    match Turned::new(source) {
        Some(turned) => turned.copy(threads, out),
        None => threads.chunks(out, 1, |start, chunk| source.copy(start, chunk)),
    }
}

/// The inputs one after another along an axis.
pub(super) fn concat(launch: &Launch, axis: u8, out: &mut [u8]) {
    with_bytes!(launch.output(0).dtype, T => {
        concat_elements::<T>(launch, usize::from(axis), bytemuck::cast_slice_mut(out));
    });
}

fn concat_elements<T: Pod + Send + Sync>(launch: &Launch, axis: usize, out: &mut [T]) {
    let row = |shape: &Shape| shape.dims()[axis..].iter().product::<u64>() as usize;
    let total = row(&launch.output(0).shape);
    let mut parts = Vec::with_capacity(launch.inputs().len());
    let mut begin = 0;
    for (input, operand) in launch.inputs().iter().enumerate() {
        let width = row(operand.layout.shape());
        parts.push((begin, width, launch.source::<T>(input)));
        begin += width;
    }
    launch.threads.chunks(out, 1, |start, mut chunk| {
        let mut at = start;
        while !chunk.is_empty() {
            let (outer, inside) = (at / total, at % total);
            // Empty parts begin where the next one does: the last that begins there has elements.
            let part = parts.partition_point(|(begin, ..)| *begin <= inside) - 1;
            let (begin, width, source) = &parts[part];
            let run = (begin + width - inside).min(chunk.len());
            let (now, later) = chunk.split_at_mut(run);
            source.copy(outer * width + inside - begin, now);
            chunk = later;
            at += run;
        }
    });
}
