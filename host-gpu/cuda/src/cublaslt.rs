//! Products of matrices by NVIDIA's cuBLASLt, where its library is found. Which algorithm computes
//! a product is asked once for each kind of product and kept, so that the same product is the same
//! whenever it is computed on a device. Never sees tensors: only sizes, strides and addresses.

use std::{
    collections::HashMap,
    ffi::c_void,
    fmt, ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cudarc::{
    cublaslt::{
        result::{self, CublasError},
        sys::{
            self, cublasComputeType_t as ComputeType, cublasLtMatmulAlgo_t as Algorithm,
            cublasLtMatmulDescAttributes_t as ProductAttribute,
            cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute,
            cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cublasStatus_t as Status,
            cudaDataType as ElementType,
        },
    },
    driver::{CudaContext, CudaStream},
};
use quern_operators::Dtype;

/// Bytes that a stream has for products: algorithms that need more are not taken.
pub(crate) const WORKSPACE_BYTES: u64 = 8 << 20;

/// The oldest version that is used: it has all that is asked of it.
const OLDEST_VERSION: usize = 120_000;

/// Most kinds of products of which the algorithm is kept.
const MAX_PLANS: usize = 4096;

/// As much as matters of how round addresses are.
const MOST_ALIGNMENT: u64 = 256;

/// A factor as it lies in memory: rows of elements side by side, or columns of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Factor {
    /// Whether its columns lie together, rather than its rows.
    turned: bool,
    /// How far apart they are.
    apart: u64,
    /// From matrix to matrix; 0 for the same one each time.
    pub(crate) batch_stride: u64,
    /// How round its addresses are, in bytes.
    alignment: u64,
}

impl Factor {
    /// A matrix of rows and columns with such strides; none if neither lie together.
    pub(crate) fn new([rows, columns]: [u64; 2], [row, column]: [u64; 2]) -> Option<Self> {
        let made = |turned, apart| Self { turned, apart, batch_stride: 0, alignment: 1 };
        if (column == 1 || columns == 1) && (row >= columns || rows == 1) {
            return Some(made(false, if rows == 1 { columns } else { row }));
        }
        if (row == 1 || rows == 1) && (column >= rows || columns == 1) {
            return Some(made(true, if columns == 1 { rows } else { column }));
        }
        None
    }

    /// The same where it lies at addresses that are sums of such numbers of bytes.
    pub(crate) fn aligned(self, bytes: impl IntoIterator<Item = u64>) -> Self {
        Self { alignment: alignment(bytes), ..self }
    }
}

/// By what power of 2 all sums of some numbers can be divided.
pub(crate) fn alignment(bytes: impl IntoIterator<Item = u64>) -> u64 {
    let all = bytes.into_iter().fold(MOST_ALIGNMENT, |all, bytes| all | bytes);
    1 << all.trailing_zeros()
}

/// A kind of product; the result lies row after row, matrix after matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    pub(crate) dtype: Dtype,
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    pub(crate) inner: u64,
    pub(crate) batches: u64,
    pub(crate) left: Factor,
    pub(crate) right: Factor,
    /// How round the addresses of results are, in bytes.
    pub(crate) out_alignment: u64,
}

/// Where a product's matrices are.
pub(crate) struct Addresses {
    pub(crate) left: u64,
    pub(crate) right: u64,
    pub(crate) out: u64,
    /// Of [`WORKSPACE_BYTES`].
    pub(crate) workspace: u64,
}

/// The library, ready to compute on a device.
pub(crate) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    version: usize,
    tf32: bool,
    plans: Mutex<HashMap<Product, Option<Arc<Plan>>>>,
    context: Arc<CudaContext>,
}

// SAFETY: the library lets any threads use a handle at the same time.
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

impl CublasLt {
    /// The library for a device, or why it is not used.
    pub(crate) fn find(context: &Arc<CudaContext>, tf32: bool) -> Result<Self, String> {
        // SAFETY: loading NVIDIA's library runs its initialisers, which is what it is for.
        if !unsafe { sys::is_culib_present() } {
            return Err("libcublasLt.so was not found".to_owned());
        }
        // SAFETY: the library is there, and has had this function since its first version.
        let version = unsafe { sys::cublasLtGetVersion() };
        if version < OLDEST_VERSION {
            let (found, needed) = (Version(version), Version(OLDEST_VERSION));
            return Err(format!("cublasLt {found} is older than {needed}"));
        }
        context.bind_to_thread().map_err(|error| error.to_string())?;
        let handle = result::create_handle();
        let answer = |CublasError(status)| format!("cublasLtCreate answers {status:?}");
        let handle = handle.map_err(answer)?;
        Ok(Self { handle, version, tf32, plans: Mutex::default(), context: context.clone() })
    }

    /// How a kind of product is computed; none if the library can't.
    pub(crate) fn plan(&self, product: &Product) -> Result<Option<Arc<Plan>>, CublasError> {
        if let Some(plan) = self.plans().get(product) {
            return Ok(plan.clone());
        }
        // Two that ask at the same time are answered alike.
        let plan = match Plan::new(self, product) {
            Ok(plan) => Some(Arc::new(plan)),
            // It says in several ways that it does not take this; our own kernel does.
            Err(CublasError(
                Status::CUBLAS_STATUS_NOT_SUPPORTED
                | Status::CUBLAS_STATUS_INVALID_VALUE
                | Status::CUBLAS_STATUS_ARCH_MISMATCH,
            )) => None,
            Err(error) => return Err(error),
        };
        let mut plans = self.plans();
        if plans.len() >= MAX_PLANS {
            plans.clear();
        }
        plans.insert(*product, plan.clone());
        Ok(plan)
    }

    /// Computes a product, in the order of the stream.
    ///
    /// # Safety
    /// All addresses are of memory that is the stream's and reaches as far as the matrices do, and
    /// they are as round as the plan's product says.
    pub(crate) unsafe fn multiply(
        &self,
        stream: &CudaStream,
        plan: &Plan,
        at: &Addresses,
    ) -> Result<(), CublasError> {
        let unbound = |_| CublasError(Status::CUBLAS_STATUS_NOT_INITIALIZED);
        self.context.bind_to_thread().map_err(unbound)?;
        let (one, zero) = (Scale::new(plan.dtype, 1.0), Scale::new(plan.dtype, 0.0));
        let out = at.out as *mut c_void;
        // What is column after column for the library is row after row for us: it computes the
        // turned product of the turned factors, the right one first.
        // SAFETY: by the contract above; everything that is made once lives as long as the plan,
        // and the scales are read during the call.
        unsafe {
            result::matmul(
                self.handle,
                plan.product.0,
                one.pointer(),
                zero.pointer(),
                at.right as *const c_void,
                plan.right.0,
                at.left as *const c_void,
                plan.left.0,
                out,
                plan.out.0,
                out,
                plan.out.0,
                &raw const plan.algorithm,
                at.workspace as *mut c_void,
                WORKSPACE_BYTES as usize,
                stream.cu_stream().cast(),
            )
        }
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<Product, Option<Arc<Plan>>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for CublasLt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cublasLt {}{}", Version(self.version), if self.tf32 { " with TF32" } else { "" })
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        // What fails here has failed before; there is nothing to do about it.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: nothing else has the handle.
            let _ = unsafe { result::destroy_handle(self.handle) };
        }
    }
}

/// As the library numbers its versions.
struct Version(usize);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(version) = self;
        write!(f, "{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
    }
}

/// How a kind of product is computed. What it has is only read once it is made.
pub(crate) struct Plan {
    dtype: Dtype,
    product: ProductDescriptor,
    left: LayoutDescriptor,
    right: LayoutDescriptor,
    out: LayoutDescriptor,
    algorithm: Algorithm,
}

// SAFETY: the library lets any threads read descriptors at the same time, and nothing writes them.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

impl Plan {
    fn new(library: &CublasLt, kind: &Product) -> Result<Self, CublasError> {
        let Product { dtype, rows, columns, inner, .. } = *kind;
        let (element, compute, scale) = types(dtype, library.tf32);
        let product = ProductDescriptor::new(compute, scale)?;
        product.turn(ProductAttribute::CUBLASLT_MATMUL_DESC_TRANSA, kind.right.turned)?;
        product.turn(ProductAttribute::CUBLASLT_MATMUL_DESC_TRANSB, kind.left.turned)?;
        let layout = |[rows, columns]: [u64; 2], factor: &Factor| {
            let dims = if factor.turned { [rows, columns] } else { [columns, rows] };
            LayoutDescriptor::new(element, dims, factor.apart, (kind.batches, factor.batch_stride))
        };
        let left = layout([rows, inner], &kind.left)?;
        let right = layout([inner, columns], &kind.right)?;
        let batches = (kind.batches, rows * columns);
        let out = LayoutDescriptor::new(element, [columns, rows], columns, batches)?;
        let preference = Preference::new()?;
        preference.prefer(kind)?;
        // SAFETY: all of them are alive.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                library.handle,
                product.0,
                right.0,
                left.0,
                out.0,
                out.0,
                preference.0,
            )
        }?;
        Ok(Self { dtype, product, left, right, out, algorithm: found.algo })
    }
}

/// Of an element type: its name, what products are computed in, and the type of scales.
fn types(dtype: Dtype, tf32: bool) -> (ElementType, ComputeType, ElementType) {
    let single = ComputeType::CUBLAS_COMPUTE_32F;
    let wide = ElementType::CUDA_R_32F;
    match dtype {
        Dtype::Fp16 => (ElementType::CUDA_R_16F, single, wide),
        Dtype::Bf16 => (ElementType::CUDA_R_16BF, single, wide),
        Dtype::Fp64 => {
            (ElementType::CUDA_R_64F, ComputeType::CUBLAS_COMPUTE_64F, ElementType::CUDA_R_64F)
        }
        _ if tf32 => (wide, ComputeType::CUBLAS_COMPUTE_32F_FAST_TF32, wide),
        _ => (wide, single, wide),
    }
}

/// A scale as the library reads it.
enum Scale {
    Single(f32),
    Double(f64),
}

impl Scale {
    fn new(dtype: Dtype, value: f64) -> Self {
        if dtype == Dtype::Fp64 { Self::Double(value) } else { Self::Single(value as f32) }
    }

    fn pointer(&self) -> *const c_void {
        match self {
            Self::Single(value) => ptr::from_ref(value).cast(),
            Self::Double(value) => ptr::from_ref(value).cast(),
        }
    }
}

/// What is computed, as the library has it.
struct ProductDescriptor(sys::cublasLtMatmulDesc_t);

impl ProductDescriptor {
    fn new(compute: ComputeType, scale: ElementType) -> Result<Self, CublasError> {
        result::create_matmul_desc(compute, scale).map(Self)
    }

    fn turn(&self, attribute: ProductAttribute, turned: bool) -> Result<(), CublasError> {
        // CUBLAS_OP_T or CUBLAS_OP_N.
        let operation = i32::from(turned);
        let (at, bytes) = (ptr::from_ref(&operation).cast(), size_of_val(&operation));
        // SAFETY: the descriptor is alive; this attribute is a number of 32 bits.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, at, bytes) }
    }
}

impl Drop for ProductDescriptor {
    fn drop(&mut self) {
        // SAFETY: nothing else has it. It is memory of the host's, which is given back.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// A matrix, or many, as the library has them: column after column.
struct LayoutDescriptor(sys::cublasLtMatrixLayout_t);

impl LayoutDescriptor {
    fn new(
        element: ElementType,
        [rows, columns]: [u64; 2],
        apart: u64,
        (batches, batch_stride): (u64, u64),
    ) -> Result<Self, CublasError> {
        let layout = Self(result::create_matrix_layout(element, rows, columns, apart as i64)?);
        let (count, stride) = (batches as i32, batch_stride as i64);
        let set = |attribute, at, bytes| {
            // SAFETY: the layout is alive; the attributes are numbers of these sizes.
            unsafe { result::set_matrix_layout_attribute(layout.0, attribute, at, bytes) }
        };
        let attribute = LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
        set(attribute, ptr::from_ref(&count).cast(), size_of_val(&count))?;
        let attribute = LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
        set(attribute, ptr::from_ref(&stride).cast(), size_of_val(&stride))?;
        Ok(layout)
    }
}

impl Drop for LayoutDescriptor {
    fn drop(&mut self) {
        // SAFETY: as with a product.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What algorithms may be taken.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Self, CublasError> {
        result::create_matmul_pref().map(Self)
    }

    /// Those that keep to the memory and the addresses that there are, and that add up parts in
    /// the type that is computed in: others round results of FP16 twice.
    fn prefer(&self, product: &Product) -> Result<(), CublasError> {
        use PreferenceAttribute as A;
        let workspace = WORKSPACE_BYTES;
        let bytes = (ptr::from_ref(&workspace).cast(), size_of_val(&workspace));
        self.set(A::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes)?;
        let numbers = [
            (A::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, REDUCE_IN_COMPUTE_TYPE),
            (A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, product.right.alignment),
            (A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, product.left.alignment),
            (A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, product.out_alignment),
            (A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, product.out_alignment),
        ];
        numbers.into_iter().try_for_each(|(attribute, number)| {
            let number = number as u32;
            self.set(attribute, (ptr::from_ref(&number).cast(), size_of_val(&number)))
        })
    }

    fn set(
        &self,
        attribute: PreferenceAttribute,
        (at, bytes): (*const c_void, usize),
    ) -> Result<(), CublasError> {
        // SAFETY: the preference is alive; callers give numbers of the attributes' sizes.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, at, bytes) }
    }
}

/// `CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE`.
const REDUCE_IN_COMPUTE_TYPE: u64 = 2;

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: as with a product.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_lie_row_by_row_or_column_by_column_or_in_another_way() {
        let table = [
            ([3, 4], [4, 1], Some((false, 4))),
            ([3, 4], [9, 1], Some((false, 9))),
            ([3, 4], [1, 3], Some((true, 3))),
            ([3, 4], [1, 7], Some((true, 7))),
            ([1, 4], [0, 1], Some((false, 4))),
            ([3, 1], [1, 0], Some((false, 1))),
            ([3, 1], [5, 2], Some((false, 5))),
            ([1, 4], [1, 6], Some((true, 6))),
            ([3, 4], [0, 1], None),
            ([3, 4], [1, 0], None),
            ([3, 4], [8, 2], None),
            ([3, 4], [2, 1], None),
        ];
        for (dims, strides, expected) in table {
            let found = Factor::new(dims, strides).map(|factor| (factor.turned, factor.apart));
            assert_eq!(found, expected, "{dims:?} {strides:?}");
        }
    }

    #[test]
    fn alignment_is_of_all_addresses() {
        let table = [(&[512][..], 256), (&[256, 24], 8), (&[0x7f00_0000_0000, 6], 2), (&[3], 1)];
        for (bytes, expected) in table {
            assert_eq!(alignment(bytes.iter().copied()), expected, "{bytes:?}");
        }
    }
}
