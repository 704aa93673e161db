//! Products of matrices by `gemm`: FP32 and FP64 as they lie, FP16 and BF16 panel by panel in f32,
//! so that no matrix is ever converted as a whole. Never multiplies without knowing that both
//! matrices lie within their buffers.

use half::{bf16, f16};

use super::{
    element::Element,
    launch::{Launch, with_float},
    number::Number,
    source::{Scratch, Source},
    threads::Threads,
    vector,
};
use quern_operators::{Layout, MAX_RANK};

/// Multiplications of a band of rows that a thread takes.
const BAND: usize = 1 << 22;

/// Rows of a band at least: products of few are summed up in another order.
const BAND_ROWS: usize = 96;

/// Multiplications from which on threads share more than they would have each for itself.
const SHARED: usize = 1 << 25;

/// Rows and columns of a panel, and how far it reaches along the inner dimension.
const PANEL_ROWS: usize = 256;
const PANEL_COLUMNS: usize = 512;
pub(super) const PANEL_DEPTH: usize = 512;

/// A matrix in a slice that it lies within.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    elements: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    pub(super) fn new(elements: &'a [T], [rows, columns]: [usize; 2], strides: [usize; 2]) -> Self {
        let [row_stride, column_stride] = strides;
        let matrix = Self { elements, rows, columns, row_stride, column_stride };
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * row_stride + (columns - 1) * column_stride;
            assert!(last < elements.len(), "a matrix lies within its buffer");
        }
        matrix
    }

    /// Some of its rows, of which there are as many at least.
    fn band(&self, rows: std::ops::Range<usize>) -> Self {
        let elements = self.elements.get(rows.start * self.row_stride..).unwrap_or(&[]);
        let strides = [self.row_stride, self.column_stride];
        Self::new(elements, [rows.len(), self.columns], strides)
    }

    /// The same with rows for columns.
    pub(super) fn turned(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Where a product of matrices goes.
pub(super) struct Product<'a, T> {
    pub(super) elements: &'a mut [T],
    /// How far apart its rows lie.
    pub(super) stride: usize,
    /// Whether it is added to what is there.
    pub(super) add: bool,
    /// What it is multiplied by.
    pub(super) factor: T,
}

impl<'a, T: Number> Product<'a, T> {
    /// The product itself, row by row.
    fn of(elements: &'a mut [T], columns: usize) -> Self {
        Self { elements, stride: columns, add: false, factor: T::ONE }
    }
}

/// An element type that matrices are multiplied in.
trait Multiply: Element {
    /// Writes the product to `out`, row by row.
    fn multiply(threads: &Threads, left: &Matrix<Self>, right: &Matrix<Self>, out: &mut [Self]);
}

macro_rules! direct {
    ($($type:ty)*) => {$(
        impl Multiply for $type {
            fn multiply(
                threads: &Threads,
                left: &Matrix<Self>,
                right: &Matrix<Self>,
                out: &mut [Self],
            ) {
                multiply_directly(threads, left, right, out);
            }
        }
    )*};
}

direct!(f32 f64);

/// Multiplies as elements lie. Large products are computed by all threads together; of smaller ones
/// each takes bands of rows, and need not wait for the others to wake up.
fn multiply_directly<T: Number>(
    threads: &Threads,
    left: &Matrix<T>,
    right: &Matrix<T>,
    out: &mut [T],
) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    if m == 1 && n > 1 {
        // Threads share out the elements of a column.
        return multiply_directly(threads, &right.turned(), &left.turned(), out);
    }
    let work = out.len().saturating_mul(k);
    if work > SHARED && n > 1 && threads.count() > 1 {
        let all = gemm::Parallelism::Rayon(threads.count());
        return threads.install(|| multiply(left, right, Product::of(out, n), all));
    }
    // The same for any number of threads: what a band is computed by depends on its height.
    let bands = (work / BAND).min(m / BAND_ROWS).max(1);
    let height = m.div_ceil(bands);
    threads.rows(out, height * n, k / 16, |start, chunk| {
        for (number, out) in chunk.chunks_mut(height * n).enumerate() {
            let top = (start + number) * height;
            let band = left.band(top..top + out.len() / n);
            multiply(&band, right, Product::of(out, n), gemm::Parallelism::None);
        }
    });
}

macro_rules! by_panels {
    ($($type:ty)*) => {$(
        impl Multiply for $type {
            fn multiply(
                threads: &Threads,
                left: &Matrix<Self>,
                right: &Matrix<Self>,
                out: &mut [Self],
            ) {
                multiply_by_panels(threads, left, right, out);
            }
        }
    )*};
}

by_panels!(f16 bf16);

pub(super) fn matmul(launch: &Launch, out: &mut [u8]) {
    with_float!(launch.description(0).dtype, T => {
        multiply_batch::<T>(launch, bytemuck::cast_slice_mut(out));
    });
}

fn multiply_batch<T: Multiply>(launch: &Launch, out: &mut [T]) {
    let [left, right] = [0, 1].map(|input| Batch::<T>::new(launch, input));
    let size = left.dims[0] * right.dims[1];
    if size == 0 || out.is_empty() {
        return;
    }
    let work = size.saturating_mul(left.dims[1]);
    let one = |number: usize, out: &mut [T]| {
        T::multiply(launch.threads, &left.matrix(number), &right.matrix(number), out);
    };
    // Small products are shared out between threads; large ones are computed by all of them.
    let matrices = out.len() / size;
    if matrices >= launch.threads.count() && work <= SHARED {
        return launch.threads.rows(out, size, left.dims[1] / 16, |start, chunk| {
            for (number, out) in chunk.chunks_mut(size).enumerate() {
                one(start + number, out);
            }
        });
    }
    out.chunks_mut(size).enumerate().for_each(|(number, out)| one(number, out));
}

/// The matrices of an input, its two innermost dimensions.
pub(super) struct Batch<'a, T> {
    elements: &'a [T],
    layout: Layout,
    /// Rows and columns of each.
    pub(super) dims: [usize; 2],
    strides: [usize; 2],
}

impl<'a, T: Element> Batch<'a, T> {
    pub(super) fn new(launch: &Launch<'a>, input: usize) -> Self {
        let layout = launch.operand(input).layout;
        let innermost = |values: &[u64]| {
            let [row, column] = values.last_chunk().expect("a matrix has two dimensions");
            [*row as usize, *column as usize]
        };
        Self {
            elements: bytemuck::cast_slice(launch.bytes(input)),
            layout,
            dims: innermost(layout.shape().dims()),
            strides: innermost(layout.strides()),
        }
    }

    pub(super) fn matrix(&self, number: usize) -> Matrix<'a, T> {
        let outer = self.layout.shape().rank() - 2;
        let mut dims = [(0, 0); MAX_RANK];
        let outermost = self.layout.shape().dims()[..outer].iter().zip(self.layout.strides());
        for (place, (dim, stride)) in dims.iter_mut().zip(outermost) {
            *place = (*dim as usize, *stride as usize);
        }
        let (mut at, mut rest) = (self.layout.offset() as usize, number);
        for (dim, stride) in dims[..outer].iter().rev() {
            at += rest % dim * stride;
            rest /= dim;
        }
        Matrix::new(self.elements.get(at..).unwrap_or(&[]), self.dims, self.strides)
    }
}

/// Multiplies two matrices.
pub(super) fn multiply<T: Number>(
    left: &Matrix<T>,
    right: &Matrix<T>,
    Product { elements: out, stride, add, factor }: Product<T>,
    parallelism: gemm::Parallelism,
) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!(k == right.rows && n <= stride, "matrices that can be multiplied");
    assert!((m - 1) * stride + n <= out.len(), "a product lies within its buffer");
    if k == 0 {
        if !add {
            out.chunks_mut(stride).take(m).for_each(|row| row[..n].fill(T::ZERO));
        }
        return;
    }
    let strides = [left.column_stride, left.row_stride, right.column_stride, right.row_stride];
    let [left_column, left_row, right_column, right_row] = strides.map(|stride| stride as isize);
    // SAFETY: `Matrix::new` has checked that every element that these dimensions and strides lead
    // to lies within the slices, and `out`, which is borrowed alone, holds `m` rows of `n` that
    // lie `stride` apart.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            left.elements.as_ptr(),
            left_column,
            left_row,
            right.elements.as_ptr(),
            right_column,
            right_row,
            T::ONE,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Multiplies in f32: each thread takes some rows of the result, panel by panel.
fn multiply_by_panels<T: Element<Compute = f32>>(
    threads: &Threads,
    left: &Matrix<T>,
    right: &Matrix<T>,
    out: &mut [T],
) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    let height = m.div_ceil(threads.count()).clamp(32, PANEL_ROWS);
    threads.rows(out, height * n, k / 16, |start, bands| {
        let (mut left_panel, mut right_panel) = (Panel::new(), Panel::new());
        for (number, band) in bands.chunks_mut(height * n).enumerate() {
            let top = (start + number) * height;
            let rows = top..top + band.len() / n;
            for begin in (0..n).step_by(PANEL_COLUMNS) {
                let columns = begin..(begin + PANEL_COLUMNS).min(n);
                let mut sums = vec![0.0; rows.len() * columns.len()];
                for begin in (0..k).step_by(PANEL_DEPTH) {
                    let depth = begin..(begin + PANEL_DEPTH).min(k);
                    let left = left_panel.load(left, rows.clone(), depth.clone());
                    let right = right_panel.load(right, depth, columns.clone());
                    let stride = columns.len();
                    let product =
                        Product { elements: &mut sums, stride, add: begin > 0, factor: 1.0 };
                    multiply(&left, &right, product, gemm::Parallelism::None);
                }
                let lines = band.chunks_mut(n).zip(sums.chunks(columns.len()));
                lines.for_each(|(line, sums)| vector::convert(sums, &mut line[columns.clone()]));
            }
        }
    });
}

/// A part of a matrix, as it is computed with.
pub(super) struct Panel<T: Element> {
    wide: Vec<T::Compute>,
    scratch: Scratch<T>,
}

impl<T: Element> Panel<T> {
    pub(super) fn new() -> Self {
        Self { wide: Vec::new(), scratch: Scratch::new() }
    }

    /// Some rows and columns of a matrix: where they lie, if they are computed with as they are.
    pub(super) fn part<'s>(
        &'s mut self,
        matrix: &Matrix<'s, T>,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> Matrix<'s, T::Compute> {
        if !T::DIRECT || rows.is_empty() || columns.is_empty() {
            return self.load(matrix, rows, columns);
        }
        let (dims, strides) =
            ([rows.len(), columns.len()], [matrix.row_stride, matrix.column_stride]);
        let at = rows.start * strides[0] + columns.start * strides[1];
        Matrix::new(bytemuck::cast_slice(&matrix.elements[at..]), dims, strides)
    }

    /// Takes the lines along which elements lie together.
    fn load(
        &mut self,
        matrix: &Matrix<T>,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> Matrix<'_, T::Compute> {
        let by_columns = matrix.row_stride < matrix.column_stride;
        let (lines, along, line_stride, stride) = match by_columns {
            true => (columns.clone(), rows.clone(), matrix.column_stride, matrix.row_stride),
            false => (rows.clone(), columns.clone(), matrix.row_stride, matrix.column_stride),
        };
        let length = along.len();
        self.wide.resize(lines.len() * length, T::Compute::ZERO);
        for (line, wide) in lines.zip(self.wide.chunks_mut(length)) {
            let at = line * line_stride + along.start * stride;
            let source = Source::strided(&matrix.elements[at..], length, stride);
            wide.copy_from_slice(source.load(0, length, &mut self.scratch));
        }
        let strides = if by_columns { [1, length] } else { [length, 1] };
        Matrix::new(&self.wide, [rows.len(), columns.len()], strides)
    }
}
