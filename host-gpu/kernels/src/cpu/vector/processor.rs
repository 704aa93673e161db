//! What a processor does at once that no loop over single elements is made into: the conversions
//! of FP16. Those of the others are loops of a few operations already.

use half::f16;
use pulp::NullaryFnOnce;

use super::CHUNK;
use crate::cpu::element::Element;

/// A processor, known to be the one that this runs on.
pub(in crate::cpu) trait Processor: Copy {
    fn widen(self, halves: &[f16; CHUNK]) -> [f32; CHUNK];

    /// To the nearest, ties to even.
    fn narrow(self, floats: &[f32; CHUNK]) -> [f16; CHUNK];
}

/// A loop that asks the processor to convert.
pub(super) trait Loop {
    type Output;
    fn run(self, processor: impl Processor) -> Self::Output;
}

/// A loop on a processor.
pub(super) struct On<L, P> {
    pub(super) body: L,
    pub(super) processor: P,
}

impl<L: Loop, P: Processor> NullaryFnOnce for On<L, P> {
    type Output = L::Output;

    #[inline(always)]
    fn call(self) -> L::Output {
        self.body.run(self.processor)
    }
}

/// Any processor: converts as loops do.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Processor for Portable {
    #[inline(always)]
    fn widen(self, halves: &[f16; CHUNK]) -> [f32; CHUNK] {
        let mut floats = [0.0; CHUNK];
        floats.iter_mut().zip(halves).for_each(|(float, half)| *float = half.widen());
        floats
    }

    #[inline(always)]
    fn narrow(self, floats: &[f32; CHUNK]) -> [f16; CHUNK] {
        let mut halves = [f16::ZERO; CHUNK];
        halves.iter_mut().zip(floats).for_each(|(half, float)| *half = f16::narrow(*float));
        halves
    }
}

/// AVX-512.
#[cfg(target_arch = "x86_64")]
impl Processor for pulp::x86::V4 {
    #[inline(always)]
    fn widen(self, halves: &[f16; CHUNK]) -> [f32; CHUNK] {
        let mut floats = [0.0; CHUNK];
        let vectors = halves.as_chunks::<16>().0.iter().zip(floats.as_chunks_mut::<16>().0);
        for (halves, floats) in vectors {
            *floats = bytemuck::cast(self.avx512f._mm512_cvtph_ps(bytemuck::cast(*halves)));
        }
        floats
    }

    #[inline(always)]
    fn narrow(self, floats: &[f32; CHUNK]) -> [f16; CHUNK] {
        use std::arch::x86_64::{_MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT};
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        let mut halves = [f16::ZERO; CHUNK];
        let vectors = floats.as_chunks::<16>().0.iter().zip(halves.as_chunks_mut::<16>().0);
        for (floats, halves) in vectors {
            let vector = self.avx512f._mm512_cvtps_ph::<NEAREST>(bytemuck::cast(*floats));
            *halves = bytemuck::cast(vector);
        }
        halves
    }
}
