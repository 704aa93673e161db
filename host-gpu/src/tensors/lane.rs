//! One lane: a thread that computes for the sessions given to it, one operator at a time, whoever's
//! turn it is. Where nothing waits, a caller takes the turn itself and computes where it is. A device
//! in another process is called by the thread alone, with many operators a turn. Never blocks a
//! caller, and never decides what is computed.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use quern_kernels::{BufferId, Lane as Computer, alone};
use quern_operators::LaneError;
use quern_types::TenantId;
use tokio::sync::oneshot;

use super::{
    account::Account,
    command::{Answer, Command, Held, close, compute_all, give_back, guarded, panicked},
    turns::{SessionKey, Turns},
};

/// Steps and frees that may wait for one session before it is told to.
const MOST_WAITING: usize = 512;

/// Elements that may wait for one session before it is told to.
const MOST_WAITING_BYTES: u64 = 32 << 20;

/// Commands that a device in another process is given in one turn.
const MOST_TOGETHER: usize = 64;

/// Memory that is given back where a session ends; more is given back by the lane's thread.
const SMALL_BYTES: u64 = 1 << 20;

/// Why a session is at an end, once it is.
pub(super) type Failure = Arc<OnceLock<LaneError>>;

/// A session that comes to a lane.
pub(super) struct Entry {
    pub(super) share_milli: u32,
    pub(super) held: Held,
    pub(super) failure: Failure,
}

/// A lane, as its thread and all its sessions know it.
pub(super) struct Lane {
    /// Whether the device computes where it is called.
    here: bool,
    state: Mutex<State>,
    work: Condvar,
    busy_ns: AtomicU64,
}

/// What a lane is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneStatus {
    /// Sessions that are given to it.
    pub sessions: usize,
    /// Steps that wait for it.
    pub waiting: usize,
    /// How long it has computed, since it was started.
    pub busy_ns: u64,
}

#[derive(Default)]
struct State {
    seats: HashMap<SessionKey, Seat>,
    next: SessionKey,
    turns: Turns,
    /// Whether somebody computes.
    busy: bool,
    /// Whether the thread is to be woken where there is something to do.
    asleep: bool,
    closed: bool,
    /// What the thread is to give back.
    gone: Vec<(SessionKey, Held)>,
}

/// A session at a lane.
struct Seat {
    tenant: TenantId,
    failure: Failure,
    /// None while something is done with it.
    held: Option<Held>,
    commands: VecDeque<Command>,
    /// Memory that waits to be freed.
    owed_bytes: u64,
    /// Elements that wait to be written.
    waiting_bytes: u64,
    room: Option<Room>,
}

/// Somebody who waits for room.
struct Room {
    /// What may be owed by then, unless nothing waits.
    owed_bytes: u64,
    tell: oneshot::Sender<()>,
}

/// Something to be done with what a session has, away from the lock.
struct Turn {
    session: SessionKey,
    held: Held,
    /// What is done first, and answered to nobody.
    before: Vec<Command>,
    command: Option<Command>,
}

impl Lane {
    /// A lane of a device that computes where it is called, or does not.
    pub(super) fn new(here: bool) -> Self {
        let (state, work, busy_ns) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        Self { here, state, work, busy_ns }
    }

    /// Computes until the lane is closed: what its thread does.
    pub(super) fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some((session, held)) = state.gone.pop() {
                drop(state);
                self.end(session, held);
                state = self.lock();
            } else if let Some(turn) = state.take_turn(self.here) {
                drop(state);
                self.carry_out(turn);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.asleep = true;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.asleep = false;
            }
        }
    }

    /// Takes in a session.
    pub(super) fn enter(&self, entry: Entry) -> Result<SessionKey, LaneError> {
        let Entry { share_milli, held, failure } = entry;
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.next += 1;
        let key = state.next;
        let tenant = held.tenant.clone();
        state.turns.join(&tenant, key, share_milli);
        let (held, commands) = (Some(held), VecDeque::new());
        let (owed_bytes, waiting_bytes, room) = (0, 0, None);
        let seat = Seat { tenant, failure, held, commands, owed_bytes, waiting_bytes, room };
        state.seats.insert(key, seat);
        Ok(key)
    }

    /// Ends a session that has had up to so much memory: what waits is cancelled, and everything is
    /// given back.
    pub(super) fn leave(&self, session: SessionKey, most_bytes: u64) {
        let mut state = self.lock();
        let Some(mut seat) = state.seats.remove(&session) else { return };
        state.turns.leave(&seat.tenant, session);
        match seat.held.take() {
            // Where it has to wait for another process, and there is no thread any more, it has the
            // lane's end: that of its process came before.
            Some(held) if !self.here || (most_bytes > SMALL_BYTES && !state.closed) => {
                state.gone.push((session, held));
                self.wake(state);
            }
            Some(held) => {
                drop(state);
                self.end(session, held);
            }
            // Whoever has it gives it back.
            None => drop(state),
        }
        drop(seat);
    }

    /// Has a command carried out after all that wait: `here` and now, if nothing waits on the lane.
    /// Never a [`Command::Free`].
    pub(super) fn submit(&self, session: SessionKey, command: Command, here: bool) {
        let mut state = self.lock();
        if here && let Some(turn) = state.take_here(session) {
            drop(state);
            alone(|| self.carry_out(Turn { command: Some(command), ..turn }));
            return;
        }
        let Some(seat) = state.seats.get_mut(&session) else { return };
        if let Some(failure) = seat.failure.get().cloned() {
            drop(state);
            Answer::to(Some(command), Err(failure)).give();
            return;
        }
        if let Command::Write(_, elements) = &command {
            seat.waiting_bytes += elements.bytes().len() as u64;
        }
        seat.commands.push_back(command);
        state.settle(session);
        self.wake(state);
    }

    /// Writes elements without waiting for what was asked for before; not if something is being
    /// computed of this very session, or the device is not here.
    pub(super) fn write_early(&self, session: SessionKey, buffer: BufferId, bytes: &[u8]) -> bool {
        if !self.here {
            return false;
        }
        let Some(held) = self.lock().take_held(session) else { return false };
        let mut outcome = Ok(());
        let write = |computer: &mut dyn Computer| outcome = computer.write(buffer, bytes);
        let held = alone(|| guarded(held, write));
        self.put_back(self.lock(), session, held, outcome.err());
        true
    }

    /// Frees a buffer, after all that waits.
    pub(super) fn free(&self, session: SessionKey, buffer: BufferId, bytes: u64) {
        let mut state = self.lock();
        let Some(seat) = state.seats.get_mut(&session) else { return };
        if !self.here || !seat.commands.is_empty() || seat.held.is_none() {
            // There is a turn to come, which it is part of, but where the session has lost all.
            seat.owed_bytes += bytes;
            seat.commands.push_back(Command::Free(buffer, bytes));
            state.settle(session);
            self.wake(state);
            return;
        }
        let held = state.take_held(session);
        drop(state);
        let Some(held) = held else { return };
        let held = guarded(held, |computer| computer.free(buffer));
        self.put_back(self.lock(), session, held, None);
    }

    /// What waits to be freed.
    pub(super) fn owed_bytes(&self, session: SessionKey) -> u64 {
        self.lock().seats.get(&session).map_or(0, |seat| seat.owed_bytes)
    }

    /// What to wait for until less waits, and no more memory is owed than that; none: nothing.
    pub(super) fn room(
        &self,
        session: SessionKey,
        owed_bytes: u64,
    ) -> Option<oneshot::Receiver<()>> {
        let mut state = self.lock();
        let seat = state.seats.get_mut(&session)?;
        if seat.failure.get().is_some() || seat.has_room(MOST_WAITING, owed_bytes) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        seat.room = Some(Room { owed_bytes, tell });
        Some(told)
    }

    /// Ends all sessions; the thread ends when it is done with what it does.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let keys: Vec<_> = state.seats.keys().copied().collect();
        let answers: Vec<_> = keys.iter().map(|key| state.fail(*key, closed())).collect();
        drop(state);
        answers.into_iter().flatten().for_each(Answer::give);
        self.work.notify_all();
    }

    pub(super) fn status(&self) -> LaneStatus {
        let state = self.lock();
        LaneStatus {
            sessions: state.seats.len(),
            waiting: state.seats.values().map(Seat::waiting).sum(),
            busy_ns: self.busy_ns.load(Relaxed),
        }
    }

    /// Does what a turn is for, and lets the next one begin.
    fn carry_out(&self, turn: Turn) {
        let Turn { session, held, before, mut command } = turn;
        let (tenant, account) = (held.tenant.clone(), Arc::clone(&held.account));
        let begin = Instant::now();
        let (mut outcome, mut told_ns) = (Err(panicked()), None);
        let held = guarded(held, |computer| {
            outcome = compute_all(computer, before, &mut command);
            told_ns = computer.computed_ns();
        });
        let passed_ns = || u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let ns = told_ns.unwrap_or_else(passed_ns);
        let mut state = self.lock();
        state.busy = false;
        self.charge(&mut state, (&tenant, session), &account, ns);
        self.put_back(state, session, held, outcome.as_ref().err().cloned());
        // Whoever is answered finds the lane ready for more.
        Answer::to(command, outcome).give();
    }

    /// Gives a session back what it has, or ends it where that is lost.
    fn put_back(
        &self,
        mut state: MutexGuard<'_, State>,
        session: SessionKey,
        held: Result<Held, LaneError>,
        failure: Option<LaneError>,
    ) {
        let (held, failure) = match held {
            Ok(held) => (Some(held), failure),
            Err(lost) => (None, Some(lost)),
        };
        let left = match state.seats.get_mut(&session) {
            // Whoever is lost has nothing that others could not use.
            Some(_) if matches!(failure, Some(LaneError::Lost { .. })) => held,
            Some(seat) => {
                seat.held = held;
                None
            }
            // It has ended meanwhile.
            None => held,
        };
        let answers = failure.map(|failure| state.fail(session, failure)).unwrap_or_default();
        let told = state.seats.get_mut(&session).and_then(Seat::has_more_room);
        state.settle(session);
        self.wake(state);
        if let Some(left) = left {
            self.end(session, left);
        }
        answers.into_iter().for_each(Answer::give);
        if let Some(told) = told {
            _ = told.send(());
        }
    }

    /// Gives back what a session had, and charges it with what it has computed to its end.
    fn end(&self, session: SessionKey, mut held: Held) {
        if let Some(ns) = close(&mut held).filter(|ns| *ns > 0) {
            self.charge(&mut self.lock(), (&held.tenant, session), &held.account, ns);
        }
        give_back(held);
    }

    /// Charges a session with so much time of the device.
    fn charge(
        &self,
        state: &mut State,
        (tenant, session): (&TenantId, SessionKey),
        account: &Account,
        ns: u64,
    ) {
        self.busy_ns.fetch_add(ns, Relaxed);
        account.computed(ns);
        state.turns.charge(tenant, session, ns);
    }

    /// Wakes the thread if there is something for it to do.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let needed = !state.busy && (state.turns.anyone_ready() || !state.gone.is_empty());
        let wake = state.asleep && needed;
        // Once is enough.
        state.asleep &= !wake;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next turn, if it can begin: one operator, or many where they are computed elsewhere.
    fn take_turn(&mut self, here: bool) -> Option<Turn> {
        if self.busy {
            return None;
        }
        let session = self.turns.next()?;
        let mut turn = self.begin(session)?;
        let seat = self.seats.get_mut(&session)?;
        while turn.command.is_none()
            && (here || turn.before.len() < MOST_TOGETHER)
            && let Some(next) = seat.commands.pop_front()
        {
            match &next {
                Command::Free(_, bytes) => seat.owed_bytes -= bytes,
                Command::Write(_, elements) => seat.waiting_bytes -= elements.bytes().len() as u64,
                _ => {}
            }
            let together = match next {
                Command::Free(..) => true,
                Command::Execute(_) => !here,
                // One at a time, as elements count as waiting until then.
                Command::Write(..) | Command::Share(..) => false,
                Command::Read(..) | Command::Lend(..) | Command::Finish(_) => false,
            };
            match together {
                true => turn.before.push(next),
                false => turn.command = Some(next),
            }
        }
        Some(turn)
    }

    /// A turn for a caller that would have to wait for nobody.
    fn take_here(&mut self, session: SessionKey) -> Option<Turn> {
        let seat = self.seats.get(&session)?;
        let waits = self.busy || self.turns.anyone_ready() || !seat.commands.is_empty();
        if waits || seat.failure.get().is_some() { None } else { self.begin(session) }
    }

    fn begin(&mut self, session: SessionKey) -> Option<Turn> {
        let held = self.take_held(session)?;
        self.busy = true;
        self.turns.begin(&held.tenant, session);
        Some(Turn { session, held, before: Vec::new(), command: None })
    }

    fn take_held(&mut self, session: SessionKey) -> Option<Held> {
        let held = self.seats.get_mut(&session)?.held.take();
        self.settle(session);
        held
    }

    /// Sees to it that a session gets turns if there is something to do for it.
    fn settle(&mut self, session: SessionKey) {
        let Some(seat) = self.seats.get(&session) else { return };
        let ready = seat.held.is_some() && !seat.commands.is_empty();
        self.turns.set_ready(&seat.tenant, session, ready);
    }

    /// Ends a session with the first thing that went wrong: nothing of it is computed any more.
    fn fail(&mut self, session: SessionKey, failure: LaneError) -> Vec<Answer> {
        let Some(seat) = self.seats.get_mut(&session) else { return Vec::new() };
        let failure = seat.failure.get_or_init(|| failure).clone();
        let mut answers = Vec::new();
        seat.waiting_bytes = 0;
        for command in mem::take(&mut seat.commands) {
            match command {
                Command::Free(..) => seat.commands.push_back(command),
                other => answers.push(Answer::to(Some(other), Err(failure.clone()))),
            }
        }
        if let Some(room) = seat.room.take() {
            _ = room.tell.send(());
        }
        self.settle(session);
        answers
    }
}

impl Seat {
    /// Commands that take time.
    fn waiting(&self) -> usize {
        self.commands.iter().filter(|command| !matches!(command, Command::Free(..))).count()
    }

    fn has_room(&self, most: usize, owed_bytes: u64) -> bool {
        let fits = self.owed_bytes <= owed_bytes && self.waiting_bytes <= MOST_WAITING_BYTES;
        self.commands.len() < most && (fits || self.commands.is_empty())
    }

    /// Whoever waited for room, once there is enough for a good many steps.
    fn has_more_room(&mut self) -> Option<oneshot::Sender<()>> {
        let owed_bytes = self.room.as_ref()?.owed_bytes;
        let enough = self.has_room(MOST_WAITING / 2, owed_bytes);
        if enough { self.room.take().map(|room| room.tell) } else { None }
    }
}

fn closed() -> LaneError {
    LaneError::Lost { reason: "the server is stopping".to_owned() }
}
