//! Whose turn it is on a lane: tenants share its time, and the sessions of a tenant what that gets,
//! by measured time and their shares. Decides only; it is told times and reads no clock.

use std::collections::BTreeMap;

use quern_operators::SessionRequest;
use quern_types::TenantId;

const WHOLE_MILLI: u32 = SessionRequest::WHOLE_MILLI;

/// A session, among those of its lane.
pub(super) type SessionKey = u64;

/// Who has had how much, in ns divided by shares. Whoever comes back after a pause begins where
/// the others are, so that nobody saves up time.
#[derive(Default)]
pub(super) struct Turns {
    tenants: BTreeMap<TenantId, Member>,
    /// Where the tenant was that had the last turn.
    clock: u128,
    /// Sessions that have something to do.
    ready: usize,
}

#[derive(Default)]
struct Member {
    time: u128,
    /// Where its session was that had its last turn.
    clock: u128,
    sessions: BTreeMap<SessionKey, Session>,
    ready: usize,
}

struct Session {
    time: u128,
    share_milli: u32,
    ready: bool,
}

impl Turns {
    /// A session that has nothing to do so far.
    pub(super) fn join(&mut self, tenant: &TenantId, session: SessionKey, share_milli: u32) {
        let share_milli = share_milli.max(1);
        let member = self.tenants.entry(tenant.clone()).or_default();
        member.sessions.insert(session, Session { time: 0, share_milli, ready: false });
    }

    /// The session is gone.
    pub(super) fn leave(&mut self, tenant: &TenantId, session: SessionKey) {
        self.set_ready(tenant, session, false);
        let Some(member) = self.tenants.get_mut(tenant) else { return };
        member.sessions.remove(&session);
        // A tenant that has had more than others by then is remembered until they have caught up,
        // so that opening sessions anew gains nothing.
        let clock = self.clock;
        self.tenants.retain(|_, member| !member.sessions.is_empty() || member.time > clock);
    }

    /// Whether a session has something to do and may be given a turn.
    pub(super) fn set_ready(&mut self, tenant: &TenantId, session: SessionKey, ready: bool) {
        let Some(member) = self.tenants.get_mut(tenant) else { return };
        let Some(session) = member.sessions.get_mut(&session) else { return };
        match (session.ready, ready) {
            (false, true) => {
                session.time = session.time.max(member.clock);
                if member.ready == 0 {
                    member.time = member.time.max(self.clock);
                }
                member.ready += 1;
                self.ready += 1;
            }
            (true, false) => {
                member.ready -= 1;
                self.ready -= 1;
            }
            _ => return,
        }
        session.ready = ready;
    }

    /// Whether anybody has something to do.
    pub(super) fn anyone_ready(&self) -> bool {
        self.ready > 0
    }

    /// Whose turn it is: of the tenant that has had least, the session that has had least; the
    /// lowest name and key where they are even.
    pub(super) fn next(&self) -> Option<SessionKey> {
        let ready = self.tenants.values().filter(|member| member.ready > 0);
        let member = ready.min_by_key(|member| member.time)?;
        let ready = member.sessions.iter().filter(|(_, session)| session.ready);
        ready.min_by_key(|(_, session)| session.time).map(|(key, _)| *key)
    }

    /// A session begins its turn: nobody who comes later begins before it.
    pub(super) fn begin(&mut self, tenant: &TenantId, session: SessionKey) {
        let Some(member) = self.tenants.get_mut(tenant) else { return };
        let Some(session) = member.sessions.get(&session) else { return };
        self.clock = self.clock.max(member.time);
        member.clock = member.clock.max(session.time);
    }

    /// A session has computed for so long; its tenant has had that even if it has left meanwhile.
    pub(super) fn charge(&mut self, tenant: &TenantId, session: SessionKey, ns: u64) {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), Member::default());
        }
        let member = self.tenants.get_mut(tenant).expect("it was just put there");
        let session = member.sessions.get_mut(&session);
        let share_milli = session.as_ref().map_or(WHOLE_MILLI, |session| session.share_milli);
        let had = u128::from(ns) * u128::from(WHOLE_MILLI) / u128::from(share_milli);
        if let Some(session) = session {
            session.time = session.time.max(member.clock) + had;
        }
        member.time = member.time.max(self.clock) + had;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name)
    }

    /// Gives a turn to a session that is ready again at once.
    fn turn(turns: &mut Turns, sessions: &[(&str, SessionKey, u32, u64)]) -> SessionKey {
        let key = turns.next().expect("all are ready");
        let (of, .., ns) = sessions.iter().find(|session| session.1 == key).expect("joined");
        turns.begin(&tenant(of), key);
        turns.set_ready(&tenant(of), key, false);
        turns.charge(&tenant(of), key, *ns);
        turns.set_ready(&tenant(of), key, true);
        key
    }

    /// The turns of sessions, given as tenant, key, share, and the ns that each turn takes.
    fn history(sessions: &[(&str, SessionKey, u32, u64)], length: usize) -> Vec<SessionKey> {
        let mut turns = Turns::default();
        for (of, key, share, _) in sessions {
            turns.join(&tenant(of), *key, *share);
            turns.set_ready(&tenant(of), *key, true);
        }
        (0..length).map(|_| turn(&mut turns, sessions)).collect()
    }

    #[test]
    fn time_is_what_is_shared_not_turns() {
        assert_eq!(
            history(&[("a", 1, 1_000, 30), ("b", 2, 1_000, 10)], 8),
            [1, 2, 2, 2, 1, 2, 2, 2]
        );
    }

    #[test]
    fn half_a_share_gets_half_the_time() {
        let had = history(&[("a", 1, 500, 10), ("b", 2, 1_000, 10)], 300);
        assert_eq!(had.iter().filter(|key| **key == 1).count(), 100);
    }

    #[test]
    fn a_tenant_gets_no_more_for_having_more_sessions() {
        let had = history(&[("a", 1, 1_000, 10), ("a", 2, 1_000, 10), ("b", 3, 1_000, 10)], 400);
        let count = |key| had.iter().filter(|had| **had == key).count();
        assert_eq!([count(1), count(2), count(3)], [100, 100, 200]);
    }

    #[test]
    fn a_pause_saves_up_nothing() {
        let sessions = [("a", 1, 1_000, 10), ("b", 2, 1_000, 10)];
        let mut turns = Turns::default();
        turns.join(&tenant("a"), 1, 1_000);
        turns.join(&tenant("b"), 2, 1_000);
        turns.set_ready(&tenant("a"), 1, true);
        (0..100).for_each(|_| assert_eq!(turn(&mut turns, &sessions), 1));
        turns.set_ready(&tenant("b"), 2, true);
        let had: Vec<_> = (0..6).map(|_| turn(&mut turns, &sessions)).collect();
        assert_eq!(had, [2, 1, 2, 1, 2, 1]);
    }

    #[test]
    fn a_tenant_that_opens_sessions_anew_keeps_its_debt() {
        let (a, b) = (tenant("a"), tenant("b"));
        let mut turns = Turns::default();
        turns.join(&b, 0, 1_000);
        turns.set_ready(&b, 0, true);
        turns.join(&a, 1, 1_000);
        turns.begin(&a, 1);
        turns.charge(&a, 1, 50);
        turns.leave(&a, 1);
        turns.join(&a, 2, 1_000);
        turns.set_ready(&a, 2, true);
        let sessions = [("a", 2, 1_000, 10), ("b", 0, 1_000, 10)];
        let had: Vec<_> = (0..6).map(|_| turn(&mut turns, &sessions)).collect();
        assert_eq!(had, [0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn who_has_left_or_has_nothing_to_do_gets_no_turn() {
        let a = tenant("a");
        let mut turns = Turns::default();
        turns.join(&a, 1, 0);
        turns.join(&a, 2, 1_000);
        assert_eq!((turns.next(), turns.anyone_ready()), (None, false));
        turns.set_ready(&a, 1, true);
        turns.set_ready(&a, 2, true);
        turns.leave(&a, 1);
        assert_eq!((turns.next(), turns.anyone_ready()), (Some(2), true));
        turns.leave(&a, 2);
        assert_eq!((turns.next(), turns.anyone_ready()), (None, false));
        turns.set_ready(&tenant("b"), 7, true);
        assert!(!turns.anyone_ready());
        turns.charge(&a, 2, 10);
        turns.join(&a, 3, 1_000);
        assert_eq!(turns.tenants[&a].time, 10, "who leaves while it computes has had that");
    }
}
