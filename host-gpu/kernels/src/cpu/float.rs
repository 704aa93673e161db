//! Functions of floats. Those of f32 are polynomials without branches and calls, so that loops of
//! them become vectors; accurate to a few units in the last place. What is fused is so on every
//! processor, and they give the same on each; one without an instruction for it (of x86 those
//! before AVX2) takes longer. Those of f64 are the standard library's.

use super::{element::Element, number::Number};

/// A floating-point type to compute in.
pub(super) trait Float: Number + Element<Compute = Self> {
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tanh(self) -> Self;
    fn erf(self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn round_ties_even(self) -> Self;
    fn powf(self, power: Self) -> Self;
    fn of_f64(value: f64) -> Self;

    /// Cosine and sine of a part of a turn, from 0 to below 1.
    fn circle(self) -> (Self, Self);

    #[inline(always)]
    fn reciprocal(self) -> Self {
        Self::ONE.div(self)
    }

    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE.add(self.neg().exp()).reciprocal()
    }

    #[inline(always)]
    fn gelu(self) -> Self {
        let phi = Self::ONE.add(self.mul(Self::of_f64(std::f64::consts::FRAC_1_SQRT_2)).erf());
        Self::of_f64(0.5).mul(self).mul(phi)
    }

    #[inline(always)]
    fn gelu_tanh(self) -> Self {
        let cube = self.mul(self).mul(self).mul(Self::of_f64(0.044_715));
        let inner = Self::of_f64(0.797_884_560_802_865_4).mul(self.add(cube));
        Self::of_f64(0.5).mul(self).mul(Self::ONE.add(inner.tanh()))
    }
}

impl Float for f64 {
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn sin(self) -> Self {
        f64::sin(self)
    }
    fn cos(self) -> Self {
        f64::cos(self)
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
    fn floor(self) -> Self {
        f64::floor(self)
    }
    fn ceil(self) -> Self {
        f64::ceil(self)
    }
    fn round_ties_even(self) -> Self {
        f64::round_ties_even(self)
    }
    fn powf(self, power: Self) -> Self {
        f64::powf(self, power)
    }
    #[inline(always)]
    fn of_f64(value: f64) -> Self {
        value
    }
    fn circle(self) -> (Self, Self) {
        let (sine, cosine) = (self * std::f64::consts::TAU).sin_cos();
        (cosine, sine)
    }
}

impl Float for f32 {
    #[inline(always)]
    fn exp(self) -> Self {
        exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    fn sin(self) -> Self {
        f32::sin(self)
    }
    fn cos(self) -> Self {
        f32::cos(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        erf(self)
    }
    #[inline(always)]
    fn floor(self) -> Self {
        f32::floor(self)
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        f32::ceil(self)
    }
    #[inline(always)]
    fn round_ties_even(self) -> Self {
        f32::round_ties_even(self)
    }
    fn powf(self, power: Self) -> Self {
        f32::powf(self, power)
    }
    #[inline(always)]
    fn of_f64(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn circle(self) -> (Self, Self) {
        circle(self)
    }
}

/// `Σ cᵢ xⁱ`, the coefficients from the highest power down.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, *coefficient);
    }
    sum
}

/// `2ⁿ` for -126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The two parts of ln 2, of which the first has few bits.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);

/// Cephes, `expf`: `x = n ln 2 + r`, and a polynomial of `r`. The power is applied in two halves,
/// so that results below the normal ones come out as well.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Added to a small number, it leaves the nearest integer in the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    let clamped = if x < -104.0 { -104.0 } else { x };
    let clamped = if clamped > 89.0 { 89.0 } else { clamped };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, SHIFT);
    let power = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    let n = shifted - SHIFT;
    let r = n.mul_add(-LN_2.1, n.mul_add(-LN_2.0, clamped));
    let coefficients =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let value = polynomial(r, coefficients).mul_add(r * r, r) + 1.0;
    let half = power >> 1;
    value * power_of_two(half) * power_of_two(power.wrapping_sub(half))
}

/// Cephes, `logf`: `x = 2ⁿ m`, and a polynomial of `m - 1`.
#[inline(always)]
fn ln(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let normal = if tiny { x * 8_388_608.0 } else { x };
    let bits = normal.to_bits();
    let fraction = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let small = fraction < std::f32::consts::FRAC_1_SQRT_2;
    let exponent = ((bits >> 23) as i32).wrapping_sub(126 + if tiny { 23 } else { 0 });
    let e = exponent.wrapping_sub(i32::from(small)) as f32;
    let m = if small { fraction + fraction - 1.0 } else { fraction - 1.0 };
    let square = m * m;
    let coefficients = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    let tail = polynomial(m, coefficients) * m * square + e * LN_2.1 - 0.5 * square;
    let value = m + tail + e * LN_2.0;
    let value = if x == f32::INFINITY { x } else { value };
    let value = if x == 0.0 { f32::NEG_INFINITY } else { value };
    if x >= 0.0 { value } else { f32::NAN }
}

/// Cephes, `tanhf`: a polynomial near 0, elsewhere by the exponential.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let square = x * x;
    let coefficients =
        [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
    let near = polynomial(square, coefficients) * square * x + x;
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.625 { near } else { far.copysign(x) }
}

/// The rational approximation of Eigen and XLA, accurate to some 1e-7.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let clamped = if x < -4.0 { -4.0 } else { x };
    let clamped = if clamped > 4.0 { 4.0 } else { clamped };
    let square = clamped * clamped;
    let above = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    let below = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
    clamped * (polynomial(square, above) / polynomial(square, below))
}

/// Cephes, `cosf` and `sinf`: polynomials within an eighth of a turn of the nearest quarter.
#[inline(always)]
fn circle(turn: f32) -> (f32, f32) {
    let quarter = (turn * 4.0 + 0.5) as i32;
    let x = (turn - quarter as f32 * 0.25) * std::f32::consts::TAU;
    let square = x * x;
    let sine = polynomial(square, [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]);
    let sine = sine * square * x + x;
    let cosine = polynomial(square, [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]);
    let cosine = cosine * square * square - 0.5 * square + 1.0;
    let (near, far) = if quarter & 1 == 0 { (cosine, sine) } else { (sine, cosine) };
    let near = if (quarter + 1) & 2 == 0 { near } else { -near };
    let far = if quarter & 2 == 0 { far } else { -far };
    (near, far)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every float of a sample of bit patterns.
    fn sample() -> impl Iterator<Item = f32> {
        let edges = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, 1.0];
        let near = (-12_000..12_000).map(|step| step as f32 * 0.01);
        (0..u32::MAX).step_by(7_919).map(f32::from_bits).chain(near).chain(edges)
    }

    fn check(name: &str, function: fn(f32) -> f32, exact: fn(f64) -> f64, relative: f64) {
        for x in sample() {
            let (found, expected) = (f64::from(function(x)), exact(f64::from(x)));
            // What is too large or too small for an f32 is so in both.
            let rounded = f64::from(expected as f32);
            let within = (found - expected).abs() <= relative * expected.abs() + 3e-45;
            let same = found == rounded || found.is_nan() && expected.is_nan();
            assert!(within || same, "{name}({x}) is {found}, not {expected}");
        }
    }

    #[test]
    fn functions_of_f32_are_accurate_over_their_whole_range() {
        check("exp", exp, f64::exp, 3e-7);
        check("ln", ln, f64::ln, 3e-7);
        check("tanh", tanh, f64::tanh, 4e-7);
        check("erf", erf, libm::erf, 6e-7);
    }

    #[test]
    fn cosines_and_sines_of_turns_are_accurate() {
        for step in 0..100_000 {
            let turn = (step as f32 + 0.5) / 100_000.0;
            let (sine, cosine) = (f64::from(turn) * std::f64::consts::TAU).sin_cos();
            let found = circle(turn);
            let far = (f64::from(found.0) - cosine).abs().max((f64::from(found.1) - sine).abs());
            assert!(far < 2e-7, "of {turn}: {found:?}, not {cosine} and {sine}");
        }
        assert_eq!((circle(0.0), circle(0.25)), ((1.0, 0.0), (0.0, 1.0)));
    }
}
