//! Reads handwritten digits that come as tensors of 8×8 pixels: label and probabilities of each.

use quern_sdk::{Error, Inputs, Model, Outputs, Tensor};

quern_sdk::inference!(classify);

fn classify(inputs: Inputs) -> Result<Outputs, Error> {
    let probabilities = Model::open("digits-mlp")?.infer(inputs)?.take("probabilities")?;
    let labels: Vec<i64> =
        probabilities.to_f32()?.chunks(10).map(|scores| most_probable(scores) as i64).collect();
    let label = Tensor::i64("label", [labels.len() as u64], &labels)?;
    Ok([label, probabilities].into())
}

/// The index of the highest score; the first one of several.
fn most_probable(scores: &[f32]) -> usize {
    (0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_highest_score_wins() {
        assert_eq!(most_probable(&[0.1, 0.6, 0.3]), 1);
        assert_eq!(most_probable(&[0.5, 0.0, 0.5]), 0);
    }
}
