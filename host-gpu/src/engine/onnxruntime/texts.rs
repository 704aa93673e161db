//! Tensors of texts, which ONNX Runtime keeps as strings of its own. They are copied as bytes, as
//! the protocol has them: `ort` itself knows no zeros in them, and nothing that isn't UTF-8.

use bytes::Bytes;
use ort::{
    AsPointer as _,
    memory::Allocator,
    ortsys,
    value::{DynTensor, DynValue, Shape, TensorElementType},
};
use quern_types::{DataType, byte_strings};

use super::describe;
use crate::engine::{Input, Output};

/// An input's texts, copied one by one into strings that the engine has made: each takes 32 bytes,
/// and nothing else is made for it on the way.
pub(super) fn value(input: &Input) -> Result<DynTensor, String> {
    let count: usize = input.shape.iter().product();
    let (allocator, shape) = (Allocator::default(), &*input.shape);
    let mut tensor =
        DynTensor::new(&allocator, TensorElementType::String, shape).map_err(describe)?;
    let mut texts = input.parts.iter().flat_map(|part| byte_strings(part));
    for index in 0..count {
        let text = texts.next().and_then(Result::ok);
        let text = text.ok_or_else(|| format!("input {:?} lacks texts", input.name))?;
        set(&mut tensor, index, text).map_err(describe)?;
    }
    Ok(tensor)
}

fn set(tensor: &mut DynTensor, index: usize, text: &[u8]) -> ort::Result<()> {
    let mut place = std::ptr::null_mut();
    let tensor = tensor.ptr_mut();
    ortsys![unsafe GetResizedStringTensorElementBuffer(tensor, index, text.len(), &mut place)?];
    // SAFETY: on success `place` is that element, which has been given this length; it is not
    // resized while it is written.
    unsafe { place.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
    Ok(())
}

/// An output's texts, each behind its length.
pub(super) fn output(tensor: &DynValue, shape: &Shape) -> Result<Output, String> {
    let shape: Vec<u64> = shape.iter().map(|&dim| dim as u64).collect();
    let count: usize = shape.iter().product::<u64>() as usize;
    let (content, offsets) = content(tensor, count).map_err(describe)?;
    let ends = offsets.iter().skip(1).copied().chain([content.len()]);
    let mut data = Vec::with_capacity(content.len() + count * size_of::<u32>());
    for (&start, end) in offsets.iter().zip(ends) {
        let text = content.get(start..end).ok_or("an output's texts overlap")?;
        let length = u32::try_from(text.len()).map_err(|_| "an output has a text of over 4 GiB")?;
        data.extend(length.to_le_bytes());
        data.extend(text);
    }
    Ok(Output { dtype: DataType::Bytes, shape, data: Bytes::from(data) })
}

/// All texts end to end, and where each begins.
fn content(tensor: &DynValue, count: usize) -> ort::Result<(Vec<u8>, Vec<usize>)> {
    let (pointer, mut length) = (tensor.ptr(), 0);
    ortsys![unsafe GetStringTensorDataLength(pointer, &mut length)?];
    let (mut content, mut offsets) = (vec![0u8; length], vec![0usize; count]);
    let (bytes, starts) = (content.as_mut_ptr().cast(), offsets.as_mut_ptr());
    // SAFETY: both buffers are as long as the call is told, and it fails on any other length than
    // that of the tensor.
    ortsys![unsafe GetStringTensorContent(pointer, bytes, length, starts, count)?];
    Ok((content, offsets))
}
