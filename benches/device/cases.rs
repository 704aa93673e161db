//! What is measured: operators with the shapes of their inputs. Peers know them by name.

use anyhow::Result;
use quern_operators::{
    Attention, Binary, Convolution, Description, Dtype, Histogram, Kernel, Metric, Norm, Operator,
    Padding, Reduce, Reduction, Shape, Sort, TopK, Unary, View,
};

/// An operator on inputs.
pub(crate) struct Case {
    /// Its name, here and to the peer.
    pub(crate) operator: &'static str,
    pub(crate) dtype: Dtype,
    /// Shapes of the inputs. Those of indices come last.
    pub(crate) inputs: Vec<Vec<u64>>,
    /// How the first input is looked at.
    pub(crate) view: Option<View>,
    pub(crate) kernel: Kernel,
    /// Whether the last input is of indices into the first one's rows.
    pub(crate) indices: bool,
    /// What limits it where it is behind.
    pub(crate) limit: &'static str,
}

impl Case {
    fn new(
        operator: &'static str,
        dtype: Dtype,
        inputs: &[&[u64]],
        kernel: Kernel,
        limit: &'static str,
    ) -> Self {
        let inputs = inputs.iter().map(|dims| dims.to_vec()).collect();
        Self { operator, dtype, inputs, view: None, kernel, indices: false, limit }
    }

    fn of_view(self, axes: &[u8]) -> Self {
        Self { view: Some(View::Permute(axes.to_vec())), ..self }
    }

    fn with_indices(self) -> Self {
        Self { indices: true, ..self }
    }

    /// What its plan counts.
    pub(crate) fn work(&self) -> Result<u64> {
        let mut inputs = Vec::new();
        for (number, dims) in self.inputs.iter().enumerate() {
            let is_index = self.indices && number + 1 == self.inputs.len();
            let dtype = if is_index { Dtype::Int64 } else { self.dtype };
            inputs.push(Description::new(dtype, Shape::new(dims)?));
        }
        Ok(self.kernel.plan(&inputs)?.work)
    }

    /// The operator that makes the view, if there is one.
    pub(crate) fn view(&self) -> Option<Operator> {
        self.view.clone().map(Operator::View)
    }

    /// Types and shapes, as tables show them.
    pub(crate) fn shape(&self) -> String {
        let shape = |dims: &Vec<u64>| {
            let dims: Vec<_> = dims.iter().map(u64::to_string).collect();
            dims.join("×")
        };
        let shapes: Vec<_> = self.inputs.iter().map(shape).collect();
        format!("{} {}", self.dtype, shapes.join(", "))
    }
}

const FLOATS: [Dtype; 3] = [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16];

/// Operators that are alike, measured together.
pub(crate) struct Part {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) cases: fn() -> Vec<Case>,
}

/// Everything that is measured, in the order of the page.
pub(crate) const PARTS: [Part; 7] = [
    Part { name: "products", title: "products of matrices", cases: products },
    Part { name: "rows", title: "softmax and norms", cases: rows },
    Part { name: "elements", title: "element by element", cases: elements },
    Part { name: "reductions", title: "reductions", cases: reductions },
    Part { name: "movements", title: "copies", cases: movements },
    Part { name: "networks", title: "attention and convolutions", cases: networks },
    Part { name: "orders", title: "order and distance", cases: orders },
];

fn products() -> Vec<Case> {
    let gemm = "sharing out what is so small between threads";
    let product = |dtype, left: &[u64], right: &[u64], limit| {
        Case::new("matmul", dtype, &[left, right], Kernel::Matmul, limit)
    };
    let mut cases: Vec<_> = [64, 256, 512, 1024, 2048]
        .map(|size| product(Dtype::Fp32, &[size, size], &[size, size], gemm))
        .into();
    cases.push(product(Dtype::Fp32, &[16, 128, 128], &[16, 128, 128], gemm));
    cases.push(product(Dtype::Fp32, &[1, 1024], &[1024, 1024], gemm));
    let bf16 = "computed in FP32, while oneDNN multiplies BF16 itself (AVX-512 BF16)";
    cases.push(product(Dtype::Bf16, &[512, 512], &[512, 512], bf16));
    cases
}

fn rows() -> Vec<Case> {
    let norm = Norm { epsilon: 1e-5 };
    let x: &[u64] = &[4096, 1024];
    let each = |dtype| {
        let shares =
            "loops over each row one after the other: the largest, exponentials, their sum, shares";
        let passes = "elements are widened and narrowed in loops of their own";
        [
            Case::new("softmax", dtype, &[x], Kernel::Softmax, shares),
            Case::new("layer norm", dtype, &[x, &x[1..], &x[1..]], Kernel::LayerNorm(norm), passes),
            Case::new("RMS norm", dtype, &[x, &x[1..]], Kernel::RmsNorm(norm), passes),
        ]
    };
    FLOATS.into_iter().flat_map(each).collect()
}

fn elements() -> Vec<Case> {
    let x: &[u64] = &[4096, 1024];
    let each = |dtype| {
        let limit = match dtype {
            Dtype::Fp32 => "memory",
            _ => "elements are widened, computed with and narrowed in loops of their own",
        };
        let stretches = match dtype {
            Dtype::Fp32 => "what stretches is written out first, block by block",
            _ => limit,
        };
        let unary = |name, function| Case::new(name, dtype, &[x], Kernel::Unary(function), limit);
        let add =
            |other, limit| Case::new("add", dtype, &[x, other], Kernel::Binary(Binary::Add), limit);
        [
            add(x, limit),
            add(&x[1..], limit),
            add(&[4096, 1], stretches),
            unary("relu", Unary::Relu),
            unary("exp", Unary::Exp),
            unary("gelu", Unary::Gelu),
        ]
    };
    FLOATS.into_iter().flat_map(each).collect()
}

fn reductions() -> Vec<Case> {
    let x: &[u64] = &[4096, 1024];
    let lanes = "partial results of two vectors, which wait for the ones before";
    let sum = |name, axes: &[u8]| {
        let function = Reduction::Sum;
        let reduce = Reduce { function, axes: axes.to_vec(), keep: false };
        Case::new(name, Dtype::Fp32, &[x], Kernel::Reduce(reduce), lanes)
    };
    let mut cases =
        vec![sum("sum", &[0, 1]), sum("sum of rows", &[1]), sum("sum of columns", &[0])];
    let max = Reduce { function: Reduction::Max, axes: vec![1], keep: false };
    cases.push(Case::new("max of rows", Dtype::Fp32, &[x], Kernel::Reduce(max), lanes));
    cases
}

fn movements() -> Vec<Case> {
    let copy = |name, dtype, dims: &[u64], axes: &[u8]| {
        Case::new(name, dtype, &[dims], Kernel::Copy, "memory").of_view(axes)
    };
    let gather = Case::new(
        "gather rows",
        Dtype::Fp32,
        &[&[32_768, 256], &[16_384]],
        Kernel::Gather(0),
        "rows are fetched one after the other",
    );
    vec![
        copy("copy", Dtype::Fp32, &[4096, 1024], &[0, 1]),
        copy("copy, turned", Dtype::Fp32, &[2048, 2048], &[1, 0]),
        copy("copy, turned", Dtype::Fp16, &[2048, 2048], &[1, 0]),
        copy("copy, channels first", Dtype::Fp32, &[8, 56, 56, 128], &[0, 3, 1, 2]),
        gather.with_indices(),
    ]
}

fn networks() -> Vec<Case> {
    let attend = |name, dtype, heads: &[u64], causal| {
        let kernel = Kernel::Attention(Attention { scale: None, causal });
        let limit = "its products are small ones for `gemm`, which packs keys and values each time";
        Case::new(name, dtype, &[heads, heads, heads], kernel, limit)
    };
    let convolve = |dtype, x: &[u64], weights: &[u64]| {
        let convolution = Convolution { padding: Padding::even(1), ..Convolution::default() };
        let limit = "what windows see is written out, panel by panel, to be multiplied by `gemm`";
        Case::new("convolution", dtype, &[x, weights], Kernel::Convolution(convolution), limit)
    };
    vec![
        convolve(Dtype::Fp32, &[8, 64, 56, 56], &[64, 64, 3, 3]),
        convolve(Dtype::Fp32, &[1, 3, 224, 224], &[64, 3, 3, 3]),
        convolve(Dtype::Bf16, &[8, 64, 56, 56], &[64, 64, 3, 3]),
        attend("attention", Dtype::Fp32, &[1, 12, 128, 64], false),
        attend("attention", Dtype::Fp32, &[1, 8, 1024, 64], false),
        attend("attention, causal", Dtype::Fp32, &[1, 8, 1024, 64], true),
        attend("attention", Dtype::Bf16, &[1, 8, 1024, 64], false),
    ]
}

fn orders() -> Vec<Case> {
    let x: &[u64] = &[1024, 4096];
    let of = |name, kernel, limit| Case::new(name, Dtype::Fp32, &[x], kernel, limit);
    let sort = Sort { axis: 1, descending: false };
    let top = TopK { axis: 1, count: 16, largest: true };
    let histogram = Histogram { bins: 64, min: -0.5, max: 0.5 };
    let distances = Kernel::Distances(Metric::Euclidean);
    vec![
        of("cumulative sum", Kernel::CumulativeSum(1), "sums of FP64, one after the other"),
        of("sort", Kernel::Sort(sort), "comparisons"),
        of("top-k", Kernel::TopK(top), "a key for each element is written and read again"),
        of("histogram", Kernel::Histogram(histogram), "one count after the other"),
        Case::new(
            "distances",
            Dtype::Fp32,
            &[&[1024, 128], &[1024, 128]],
            distances,
            "differences rather than products: rows close to each other stay precise",
        ),
    ]
}

/// Small operators of each family, about as large as those that callers compute themselves.
pub(crate) fn small() -> Vec<Case> {
    let (x, row, square): (&[u64], &[u64], &[u64]) = (&[8, 1024], &[1024], &[128, 128]);
    let case =
        |operator, dtype, inputs: &[&[u64]], kernel| Case::new(operator, dtype, inputs, kernel, "");
    let unary = |name, dtype, function| case(name, dtype, &[x], Kernel::Unary(function));
    let sum = Reduce { function: Reduction::Sum, axes: vec![1], keep: false };
    let padding = Padding::even(1);
    let convolution = Kernel::Convolution(Convolution { padding, ..Convolution::default() });
    let attention = Kernel::Attention(Attention { scale: None, causal: false });
    let (head, image): (&[u64], &[u64]) = (&[1, 1, 64, 64], &[1, 16, 16, 16]);
    vec![
        case("add", Dtype::Fp32, &[x, x], Kernel::Binary(Binary::Add)),
        case("add", Dtype::Fp16, &[x, x], Kernel::Binary(Binary::Add)),
        unary("exp", Dtype::Fp32, Unary::Exp),
        unary("gelu", Dtype::Fp32, Unary::Gelu),
        unary("sin", Dtype::Fp32, Unary::Sin),
        unary("exp", Dtype::Fp64, Unary::Exp),
        unary("gelu", Dtype::Fp64, Unary::Gelu),
        case("sum of rows", Dtype::Fp32, &[x], Kernel::Reduce(sum)),
        case("softmax", Dtype::Fp32, &[x], Kernel::Softmax),
        case("layer norm", Dtype::Fp32, &[x, row, row], Kernel::LayerNorm(Norm { epsilon: 1e-5 })),
        case("gather rows", Dtype::Fp32, &[&[64, 128], &[64]], Kernel::Gather(0)).with_indices(),
        case("sort", Dtype::Fp32, &[&[1, 768]], Kernel::Sort(Sort { axis: 1, descending: false })),
        case("matmul", Dtype::Fp32, &[square, square], Kernel::Matmul),
        case("matmul", Dtype::Fp64, &[square, square], Kernel::Matmul),
        case("matmul", Dtype::Fp32, &[&[1, 1024], &[1024, 1024]], Kernel::Matmul),
        case("attention", Dtype::Fp32, &[head, head, head], attention),
        case("convolution", Dtype::Fp32, &[image, &[16, 16, 3, 3]], convolution),
        case(
            "distances",
            Dtype::Fp32,
            &[&[64, 64], &[64, 64]],
            Kernel::Distances(Metric::Euclidean),
        ),
    ]
}
