//! Epochs of training: all images in an order by chance, in batches.

use quern_sdk::{
    autograd::{Adam, Parameters, Variable},
    gpu::{Error, Session},
};

use crate::{
    dice::Dice,
    digits::{Digits, OnDevice},
    network::Network,
};

pub(crate) struct Training {
    session: Session,
    digits: OnDevice,
    count: u64,
    batch: u64,
    /// How far the first step goes.
    rate: f64,
    network: Network,
    parameters: Parameters,
    adam: Adam,
    dice: Dice,
}

impl Training {
    pub(crate) fn new(
        session: &Session,
        digits: &Digits,
        batch: u64,
        rate: f64,
        seed: u64,
    ) -> Result<Self, Error> {
        let mut parameters = Parameters::new(session, seed);
        Ok(Self {
            session: session.clone(),
            digits: digits.upload(session)?,
            count: digits.count(),
            batch,
            rate,
            network: Network::new(&mut parameters)?,
            parameters,
            adam: Adam::new(rate),
            dice: Dice::new(seed),
        })
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Goes through all images once, with steps of this share of the rate; the mean loss. Nothing is
    /// waited for before its end, so that the device always has something to do.
    pub(crate) fn epoch(&mut self, share: f64) -> Result<f32, Error> {
        self.adam.set_rate(self.rate * share);
        let order = self.session.tensor([self.count], &self.dice.order(self.count))?;
        let images = self.digits.images.gather(0, &order)?;
        let labels = self.digits.labels.gather(0, &order)?;
        let mut sum = self.session.scalar(0f32)?;
        for start in (0..self.count).step_by(self.batch as usize) {
            let batch = start..self.count.min(start + self.batch);
            let x = Variable::constant(images.narrow(0, batch.clone())?);
            let losses = self.network.forward(&x)?.cross_entropy(&labels.narrow(0, batch)?)?;
            self.adam.step(&self.parameters, &losses.mean_all()?.backward()?)?;
            sum = sum.add(&losses.value().sum_all()?)?;
        }
        Ok(sum.item::<f32>()? / self.count as f32)
    }
}
