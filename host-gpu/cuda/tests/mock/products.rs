//! Products of matrices by cuBLASLt, over a mock of it that is stricter than the library: it wants
//! to be asked for what fits, at addresses as round as was said, and with memory for its own use.

use quern_cuda::{CudaDevice, CudaOptions, Gemm};
use quern_kernels::{Device, Session};
use quern_operators::{
    Dtype, Kernel, LaneError, Operator, Range, SessionError, SessionLimits, TensorId, View,
};

use crate::{
    driver::{with_cublaslt, with_mock},
    memory::{description, round_trip},
};

fn device(gemm: Gemm) -> CudaDevice {
    let options = CudaOptions { gemm, ..CudaOptions::default() };
    CudaDevice::open(&options).expect("the mock's device")
}

/// A tensor of small integers, in which every type is exact, and the views that are taken of it.
struct Factor {
    dims: &'static [u64],
    views: Vec<View>,
}

fn plain(dims: &'static [u64]) -> Factor {
    Factor { dims, views: Vec::new() }
}

fn permuted(dims: &'static [u64], axes: &[u8]) -> Factor {
    Factor { dims, views: vec![View::Permute(axes.to_vec())] }
}

fn part(dims: &'static [u64], ranges: &[(u64, u64, u64)]) -> Factor {
    let range = |&(start, end, step): &(u64, u64, u64)| Range { start, end, step };
    Factor { dims, views: vec![View::Slice(ranges.iter().map(range).collect())] }
}

impl Factor {
    fn upload(&self, session: &mut Session, dtype: Dtype) -> Result<TensorId, SessionError> {
        let count = self.dims.iter().product::<u64>();
        let values = (0..count).map(|at| ((at * 7 + at / 5) % 5) as f64 - 2.0);
        let elements: Vec<u8> = match dtype {
            Dtype::Fp64 => values.flat_map(f64::to_le_bytes).collect(),
            Dtype::Fp32 => values.flat_map(|x| (x as f32).to_le_bytes()).collect(),
            Dtype::Bf16 => values.flat_map(|x| half::bf16::from_f64(x).to_le_bytes()).collect(),
            _ => values.flat_map(|x| half::f16::from_f64(x).to_le_bytes()).collect(),
        };
        let mut tensor = session.upload(description(dtype, self.dims), &elements)?;
        for view in &self.views {
            tensor = session.run(&Operator::View(view.clone()), &[tensor])?[0];
        }
        Ok(tensor)
    }
}

fn multiply(
    device: &CudaDevice,
    dtype: Dtype,
    [left, right]: [&Factor; 2],
) -> Result<Vec<u8>, SessionError> {
    let mut session = Session::open(device, SessionLimits::of_bytes(1 << 24))?;
    let factors = [left.upload(&mut session, dtype)?, right.upload(&mut session, dtype)?];
    let product = session.run(&Kernel::Matmul.into(), &factors)?[0];
    session.read(product)
}

fn factors() -> Vec<[Factor; 2]> {
    vec![
        [plain(&[5, 3]), plain(&[3, 7])],
        [plain(&[1, 9]), plain(&[9, 1])],
        // Turned, one or both.
        [permuted(&[3, 5], &[1, 0]), plain(&[3, 7])],
        [plain(&[5, 3]), permuted(&[7, 3], &[1, 0])],
        [permuted(&[3, 5], &[1, 0]), permuted(&[7, 3], &[1, 0])],
        // Parts of larger matrices, at odd addresses.
        [part(&[9, 11], &[(2, 7, 1), (3, 6, 1)]), part(&[5, 9], &[(1, 4, 1), (1, 8, 1)])],
        // Neither rows nor columns lie together.
        [part(&[10, 6], &[(0, 10, 2), (0, 6, 2)]), plain(&[3, 7])],
        // Batches: as many, one for all, turned, of two dimensions that can't be made one.
        [plain(&[4, 5, 3]), plain(&[4, 3, 7])],
        [plain(&[4, 5, 3]), plain(&[3, 7])],
        [plain(&[5, 3]), plain(&[4, 3, 7])],
        [plain(&[2, 4, 5, 3]), permuted(&[2, 4, 7, 3], &[0, 1, 3, 2])],
        [permuted(&[2, 5, 4, 3], &[0, 2, 1, 3]), permuted(&[2, 7, 4, 3], &[0, 2, 3, 1])],
        [plain(&[3, 1, 5, 3]), plain(&[4, 3, 7])],
        // More of them than the library is called for.
        [plain(&[70, 1, 2, 3]), plain(&[2, 3, 2])],
        // Nothing to add up, and nothing at all.
        [plain(&[2, 0]), plain(&[0, 3])],
        [plain(&[0, 3]), plain(&[3, 2])],
    ]
}

fn check_agreement(gemm: &str) {
    let (library, own) = (device(Gemm::Library), device(Gemm::Own));
    assert_eq!(library.gemm(), gemm);
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for [left, right] in &factors() {
            let product = |device| multiply(device, dtype, [left, right]).expect("a product");
            let case = || format!("{dtype:?} {:?} {:?}", left.dims, right.dims);
            assert_eq!(product(&library), product(&own), "{}", case());
            // The same once the algorithm is known.
            assert_eq!(product(&library), product(&own), "{}", case());
        }
    }
    assert_eq!((library.held_bytes(), library.lost()), (0, None));
}

#[test]
fn products_by_the_library_are_those_of_our_own_kernels() {
    let name = "products::products_by_the_library_are_those_of_our_own_kernels";
    with_cublaslt(name, &[], || check_agreement("cublasLt 13.0.2"));
}

#[test]
fn what_the_library_has_no_algorithm_for_our_own_kernels_compute() {
    let name = "products::what_the_library_has_no_algorithm_for_our_own_kernels_compute";
    let variables = [("QUERN_MOCK_CUBLASLT_NONE", "1")];
    with_cublaslt(name, &variables, || check_agreement("cublasLt 13.0.2"));
}

#[test]
fn fp32_is_rounded_to_tf32_only_where_that_is_asked_for() {
    let name = "products::fp32_is_rounded_to_tf32_only_where_that_is_asked_for";
    with_cublaslt(name, &[], || {
        let fine = 1.0 + f32::EPSILON;
        for (gemm, said, expected) in [
            (Gemm::Library, "cublasLt 13.0.2", fine),
            (Gemm::LibraryTf32, "cublasLt 13.0.2 with TF32", 1.0),
            (Gemm::Own, "own kernels (as asked for)", fine),
        ] {
            let device = device(gemm);
            assert_eq!(device.gemm(), said);
            let mut session =
                Session::open(&device, SessionLimits::of_bytes(1 << 20)).expect("a session");
            let one = description(Dtype::Fp32, &[1, 1]);
            let [left, right] =
                [fine, 1.0].map(|x| session.upload(one, &x.to_le_bytes()).expect("uploaded"));
            let product = session.run(&Kernel::Matmul.into(), &[left, right]).expect("run")[0];
            assert_eq!(session.read(product).expect("read"), expected.to_le_bytes(), "{said}");
        }
    });
}

#[test]
fn without_the_library_our_own_kernels_compute_and_the_device_says_so() {
    let name = "products::without_the_library_our_own_kernels_compute_and_the_device_says_so";
    with_mock(name, &[], || {
        assert_eq!(device(Gemm::Library).gemm(), "own kernels (libcublasLt.so was not found)");
    });
}

#[test]
fn a_library_that_is_too_old_is_not_used() {
    let variables = [("QUERN_MOCK_CUBLASLT_VERSION", "110103")];
    with_cublaslt("products::a_library_that_is_too_old_is_not_used", &variables, || {
        let said = device(Gemm::Library).gemm();
        assert_eq!(said, "own kernels (cublasLt 11.1.3 is older than 12.0.0)");
    });
}

#[test]
fn a_product_that_fails_in_the_library_ends_its_session_alone() {
    let name = "products::a_product_that_fails_in_the_library_ends_its_session_alone";
    with_cublaslt(name, &[("QUERN_MOCK_FAULT", "product@1")], || {
        let device = device(Gemm::Library);
        let [left, right] = [plain(&[5, 3]), plain(&[3, 7])];
        let failed = multiply(&device, Dtype::Fp32, [&left, &right]).expect_err("a failure");
        let reason = "a product by cublasLt: CUBLAS_STATUS_EXECUTION_FAILED".to_owned();
        assert_eq!(failed, SessionError::Lane(LaneError::Lost { reason }));
        assert_eq!((device.held_bytes(), device.lost()), (0, None));
        multiply(&device, Dtype::Fp32, [&left, &right]).expect("a product");
        round_trip(&device, 4096);
    });
}
