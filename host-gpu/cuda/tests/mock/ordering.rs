//! Lines that are longer than what a block sorts, several times, so that runs are merged in several
//! turns: as many of them, an odd number, and of different lengths.

use quern_operators::{Dtype, Kernel, Sort, TopK};

use crate::{
    driver::with_mock,
    memory::{description, device, session},
};

/// Numbers of which many are the same.
fn numbers(count: u64) -> Vec<i64> {
    (0..count).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as i64 - 1000).collect()
}

/// Places in a line in the order of its numbers, the first of equal ones first.
fn ordered(line: &[i64], descending: bool) -> Vec<usize> {
    let mut places: Vec<_> = (0..line.len()).collect();
    places.sort_by_key(|place| if descending { -line[*place] } else { line[*place] });
    places
}

fn encode(numbers: &[i64], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::Int64 => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect(),
    }
}

/// Lines of a matrix along its rows, or along its columns.
fn check(dtype: Dtype, [lines, length]: [u64; 2], axis: u8, kernel: &Kernel) {
    let (count, descending) = match kernel {
        Kernel::TopK(top) => (top.count, top.largest),
        Kernel::Sort(sort) => (length, sort.descending),
        _ => unreachable!("these two put elements in order"),
    };
    let along = |line: u64, at: u64, length: u64| match axis {
        0 => (at * lines + line) as usize,
        _ => (line * length + at) as usize,
    };
    let all = numbers(lines * length);
    let kept = (lines * count) as usize;
    let (mut values, mut places) = (vec![0; kept], vec![0; kept]);
    for line in 0..lines {
        let numbers: Vec<_> = (0..length).map(|at| all[along(line, at, length)]).collect();
        for (at, place) in ordered(&numbers, descending).into_iter().enumerate() {
            if (at as u64) < count {
                let to = along(line, at as u64, count);
                (values[to], places[to]) = (numbers[place], place as i64);
            }
        }
    }
    let dims = if axis == 0 { [length, lines] } else { [lines, length] };
    let device = device();
    let mut session = session(&device);
    let x = session.upload(description(dtype, &dims), &encode(&all, dtype)).expect("uploaded");
    let found = session.run(&kernel.clone().into(), &[x]).expect("ordered");
    let case = format!("{dtype:?} {dims:?} {kernel:?}");
    assert!(session.read(found[0]).expect("values") == encode(&values, dtype), "{case}: values");
    let places = encode(&places, Dtype::Int64);
    assert!(session.read(found[1]).expect("places") == places, "{case}: places");
}

#[test]
fn long_lines_are_merged_of_many_runs() {
    with_mock("ordering::long_lines_are_merged_of_many_runs", &[], || {
        for dtype in [Dtype::Fp32, Dtype::Int64] {
            for (axis, dims) in [(0, [1, 20_011]), (1, [3, 7_001]), (0, [2, 10_240])] {
                for descending in [false, true] {
                    check(dtype, dims, axis, &Kernel::Sort(Sort { axis, descending }));
                }
                for count in [1, 1500, 5000] {
                    check(dtype, dims, axis, &Kernel::TopK(TopK { axis, count, largest: true }));
                }
            }
        }
    });
}
