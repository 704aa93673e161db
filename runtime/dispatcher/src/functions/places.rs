//! The places of one function: how many requests it runs at the same time, and how many of these may
//! be ones that can wait. Never queues anybody.

use std::sync::Arc;

use quern_types::{InvokeError, Priority};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of so many places, one is kept for requests that somebody waits for.
const KEPT_OF: u32 = 4;

/// Places for requests.
pub(super) struct Places {
    most: u32,
    all: Arc<Semaphore>,
    /// What requests of the lowest priority may have of them, such as asynchronous calls: however
    /// many there are, they don't keep out those that somebody waits for.
    most_patient: u32,
    patient: Arc<Semaphore>,
}

/// A place that a request has.
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    _patient: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new(most: u32) -> Self {
        // The only place there is can't be kept.
        let kept = if most > 1 { (most / KEPT_OF).max(1) } else { 0 };
        let most_patient = most - kept;
        Self { most, all: semaphore(most), most_patient, patient: semaphore(most_patient) }
    }

    /// How many there are.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> u64 {
        u64::from(self.most).saturating_sub(self.all.available_permits() as u64)
    }

    /// Takes a place, if one is free for a request of this priority.
    pub(super) fn take(&self, priority: Priority) -> Result<Place, InvokeError> {
        let patient = match priority == Priority::LOWEST {
            false => None,
            true => {
                let (scope, limit) = ("function for the lowest priority", self.most_patient);
                let patient = self.patient.clone().try_acquire_owned();
                Some(patient.map_err(|_| InvokeError::Busy { scope, limit })?)
            }
        };
        let place = self.all.clone().try_acquire_owned();
        let busy = |_| InvokeError::Busy { scope: "function", limit: self.most };
        Ok(Place { _place: place.map_err(busy)?, _patient: patient })
    }
}

fn semaphore(places: u32) -> Arc<Semaphore> {
    let places = usize::try_from(places).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many places requests of a priority get.
    fn fill(places: &Places, priority: Priority) -> Vec<Place> {
        std::iter::from_fn(|| places.take(priority).ok()).collect()
    }

    #[test]
    fn what_can_wait_leaves_places_to_what_can_not() {
        let (lowest, default) = (Priority::LOWEST, Priority::default());
        for (most, patient) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (32, 24), (256, 192)] {
            let places = Places::new(most);
            let taken = fill(&places, lowest);
            assert_eq!((taken.len(), places.taken()), (patient, patient as u64), "of {most}");
            let others = fill(&places, default);
            assert_eq!(others.len() + taken.len(), most as usize, "of {most}");
            drop((taken, others));
            assert_eq!(places.taken(), 0);
            assert_eq!(fill(&places, default).len(), most as usize, "of {most}");
        }
    }

    #[test]
    fn a_refusal_says_whose_limit_it_was_and_takes_nothing() {
        let places = Places::new(2);
        let waited_for = places.take(Priority::default()).expect("a place");
        let patient = places.take(Priority::LOWEST).expect("a place");
        let refused = |priority| places.take(priority).err().map(|error| error.to_string());
        let of_all = refused(Priority::default()).expect("none is left");
        assert!(
            of_all.starts_with("2 requests") && of_all.contains("of the function:"),
            "{of_all}"
        );
        let of_patient = refused(Priority::LOWEST).expect("none is left");
        assert!(of_patient.contains("for the lowest priority"), "{of_patient}");
        drop(patient);
        let again = places.take(Priority::default()).expect("a place");
        assert!(refused(Priority::LOWEST).is_some(), "all are taken");
        drop((waited_for, again));
        assert!(places.take(Priority::LOWEST).is_ok(), "the refusal kept nothing");
    }
}
