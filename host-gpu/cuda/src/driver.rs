//! The few calls of the driver that `cudarc` has no safe form for, each with the reason why it is
//! sound. Never decides anything: errors pass as they are.

use std::{ffi::c_void, ptr, sync::Arc};

use cudarc::driver::{
    CudaContext, CudaFunction, CudaStream, DriverError, result,
    sys::{self, CUdeviceptr, CUmemPool_attribute, CUresult},
};

/// What the driver says of an error.
pub(crate) fn text(error: DriverError) -> String {
    let described = error.error_string().ok().map(|text| text.to_string_lossy().into_owned());
    match described {
        Some(described) => format!("{:?} ({described})", error.0),
        None => format!("{:?}", error.0),
    }
}

/// Whether after this error no call of this process will succeed.
pub(crate) fn is_final(error: DriverError) -> bool {
    matches!(
        error.0,
        CUresult::CUDA_ERROR_DEINITIALIZED
            | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_UNKNOWN
    )
}

/// Memory of a device that streams take from and give back to, in their order.
pub(crate) struct Pool {
    pool: sys::CUmemoryPool,
    context: Arc<CudaContext>,
}

// SAFETY: the driver lets any thread use a pool; this is a handle of it.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool that keeps what it was given back, until it is trimmed.
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        let properties = sys::CUmemPoolProps {
            allocType: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
            handleTypes: sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
            location: sys::CUmemLocation {
                type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
                id: context.ordinal() as i32,
            },
            win32SecurityAttributes: ptr::null_mut(),
            maxSize: 0,
            usage: 0,
            reserved: [0; 54],
        };
        // SAFETY: the properties are read during the call.
        let pool = unsafe { result::mem_pool::create(&raw const properties) }?;
        let pool = Self { pool, context: context.clone() };
        let mut threshold = u64::MAX;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a u64, which is read during the call.
        unsafe {
            result::mem_pool::set_attribute(pool.pool, attribute, (&raw mut threshold).cast())
        }?;
        Ok(pool)
    }

    /// Memory that what the stream is asked for from now on may use; its bytes may be anything.
    pub(crate) fn allocate(
        &self,
        bytes: u64,
        stream: &CudaStream,
    ) -> Result<CUdeviceptr, DriverError> {
        self.context.bind_to_thread()?;
        // SAFETY: pool and stream are of this context and alive.
        unsafe { result::mem_pool::alloc_async(self.pool, bytes as usize, stream.cu_stream()) }
    }

    /// Gives memory back once what the stream was asked for is done.
    pub(crate) fn free(&self, at: CUdeviceptr, stream: &CudaStream) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        // SAFETY: who calls this gives up memory that this pool has given.
        unsafe { result::free_async(at, stream.cu_stream()) }
    }

    /// Gives memory that nobody uses back to the system.
    pub(crate) fn trim(&self) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        // SAFETY: the pool is alive; memory in use stays.
        unsafe { result::mem_pool::trim_to(self.pool, 0) }
    }

    /// Bytes that were taken and not given back.
    pub(crate) fn used_bytes(&self) -> Result<u64, DriverError> {
        self.context.bind_to_thread()?;
        let mut used = 0u64;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        // SAFETY: the attribute is a u64, to which the call writes.
        unsafe { result::mem_pool::get_attribute(self.pool, attribute, (&raw mut used).cast()) }?;
        Ok(used)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let bound = self.context.bind_to_thread();
        // SAFETY: nothing else has the pool. An error is one that came before.
        let destroyed = bound.and_then(|()| unsafe { result::mem_pool::destroy(self.pool) });
        self.context.record_err(destroyed);
    }
}

/// Memory of a device that one owner has for long.
pub(crate) struct Fixed {
    at: CUdeviceptr,
    context: Arc<CudaContext>,
}

impl Fixed {
    pub(crate) fn new(context: &Arc<CudaContext>, bytes: u64) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        // SAFETY: the context is bound; its bytes may be anything.
        let at = unsafe { result::malloc_sync(bytes as usize) }?;
        Ok(Self { at, context: context.clone() })
    }

    pub(crate) fn at(&self) -> CUdeviceptr {
        self.at
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        let bound = self.context.bind_to_thread();
        // SAFETY: nothing else has the memory; the driver waits for what uses it.
        let freed = bound.and_then(|()| unsafe { result::free_sync(self.at) });
        self.context.record_err(freed);
    }
}

/// Memory of the host that devices reach as well.
pub(crate) struct Pinned {
    at: *mut u8,
    bytes: usize,
    context: Arc<CudaContext>,
}

// SAFETY: it is memory like any other, and this its only owner.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(crate) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        // SAFETY: the context is bound; the flag has the device see it at the same address.
        let at = unsafe { result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_DEVICEMAP) }?;
        let at = at.cast::<u8>();
        // SAFETY: so many bytes were given. What the host reads has been written then.
        unsafe { at.write_bytes(0, bytes) };
        Ok(Self { at, bytes, context: context.clone() })
    }

    /// The address by which devices reach it.
    pub(crate) fn address(&self) -> u64 {
        self.at as u64
    }

    /// Its bytes. No copy or kernel that writes them may be under way.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is this one's, as long as it is, and was written when it was made;
        // its owner has waited for what writes it.
        unsafe { std::slice::from_raw_parts(self.at, self.bytes) }
    }

    /// Its bytes to change. No copy or kernel that uses them may be under way.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let bound = self.context.bind_to_thread();
        // SAFETY: nothing else has the memory, and its owner has waited for what uses it.
        let freed = bound.and_then(|()| unsafe { result::free_host(self.at.cast()) });
        self.context.record_err(freed);
    }
}

/// Makes bytes 0, in the order of the stream.
///
/// # Safety
/// The memory is the stream's, and so many bytes long.
pub(crate) unsafe fn clear(
    stream: &CudaStream,
    at: CUdeviceptr,
    bytes: u64,
) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: by the contract above.
    unsafe { result::memset_d8_async(at, 0, bytes as usize, stream.cu_stream()) }
}

/// Copies the first bytes of pinned memory to the device, in the order of the stream.
///
/// # Safety
/// The memory of the device is the stream's and long enough, and `from` stays as it is until the
/// copy is done.
pub(crate) unsafe fn copy_in(
    stream: &CudaStream,
    to: CUdeviceptr,
    from: &Pinned,
    bytes: usize,
) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: by the contract above; the slice ends within the memory, or this panics.
    unsafe { result::memcpy_htod_async(to, &from.bytes()[..bytes], stream.cu_stream()) }
}

/// Copies bytes of any memory to the device, in the order of the stream.
///
/// # Safety
/// The memory of the device is the stream's and long enough, and the bytes stay as they are until
/// the copy is done.
pub(crate) unsafe fn copy_bytes_in(
    stream: &CudaStream,
    to: CUdeviceptr,
    bytes: &[u8],
) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: by the contract above.
    unsafe { result::memcpy_htod_async(to, bytes, stream.cu_stream()) }
}

/// Copies bytes of the device to the beginning of pinned memory, in the order of the stream.
///
/// # Safety
/// The memory of the device is the stream's and long enough, and `to` is not touched until the
/// copy is done.
pub(crate) unsafe fn copy_out(
    stream: &CudaStream,
    to: &mut Pinned,
    from: CUdeviceptr,
    bytes: usize,
) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: by the contract above; the slice ends within the memory, or this panics.
    unsafe { result::memcpy_dtoh_async(&mut to.bytes_mut()[..bytes], from, stream.cu_stream()) }
}

/// Copies bytes within the device, in the order of the stream.
///
/// # Safety
/// Both are the stream's, long enough, and don't overlap.
pub(crate) unsafe fn copy_within(
    stream: &CudaStream,
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: u64,
) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: by the contract above.
    unsafe { result::memcpy_dtod_async(to, from, bytes as usize, stream.cu_stream()) }
}

/// Launches a kernel on one-dimensional blocks, in the order of the stream.
///
/// # Safety
/// `P` is the struct that the kernel takes, and every address in it is of memory that is the
/// stream's and reaches as far as the kernel does.
pub(crate) unsafe fn launch<P: Copy>(
    stream: &CudaStream,
    function: &CudaFunction,
    (blocks, threads): (u32, u32),
    parameters: &P,
) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    let mut pointers = [ptr::from_ref(parameters).cast_mut().cast::<c_void>()];
    let (grid, block) = ((blocks, 1, 1), (threads, 1, 1));
    // SAFETY: by the contract above; the driver copies the parameters during the call.
    unsafe {
        result::launch_kernel(
            function.cu_function(),
            grid,
            block,
            0,
            stream.cu_stream(),
            &mut pointers,
        )
    }
}
