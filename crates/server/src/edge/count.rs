//! What is counted: calls in flight, and what became of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{Counter, Histogram};

/// A bounded number of places.
#[derive(Debug)]
pub(super) struct Slots {
    taken: AtomicUsize,
    max: usize,
}

/// A place, free again on drop.
#[derive(Debug)]
pub(super) struct Slot<'a>(&'a AtomicUsize);

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    /// Whether a place is free at the moment.
    pub(super) fn has_room(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < self.max
    }

    /// Takes a place, if one is free.
    pub(super) fn take(&self) -> Option<Slot<'_>> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // Made before the check, so that a refused call gives back what it added.
        let slot = Slot(&self.taken);
        (before < self.max).then_some(slot)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The metrics of every route, looked up by its pattern. Handles are made once: asking the recorder for one hashes and
/// allocates all labels each time.
#[derive(Debug, Default)]
pub(super) struct Counts {
    routes: RwLock<HashMap<Box<str>, Arc<Route>>>,
}

struct Route {
    duration: Histogram,
    by_status: RwLock<Vec<(StatusCode, Counter)>>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Route")
    }
}

impl Counts {
    /// Counts one call.
    pub(super) fn count(&self, route: &str, status: StatusCode, took: Duration) {
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(route).cloned();
        let known = known.unwrap_or_else(|| {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Route::new(route));
            Arc::clone(routes.entry(route.into()).or_insert_with(new))
        });
        known.duration.record(took.as_secs_f64());
        known.counter(route, status).increment(1);
    }
}

impl Route {
    fn new(route: &str) -> Self {
        let route = route.to_owned();
        let duration = metrics::histogram!("http_request_duration_seconds", "route" => route);
        Self { duration, by_status: RwLock::default() }
    }

    fn counter(&self, route: &str, status: StatusCode) -> Counter {
        let find = |all: &[(StatusCode, Counter)]| {
            all.iter().find(|(of, _)| *of == status).map(|(_, counter)| counter.clone())
        };
        if let Some(known) = find(&self.by_status.read().unwrap_or_else(PoisonError::into_inner)) {
            return known;
        }
        let new = metrics::counter!(
            "http_requests_total", "route" => route.to_owned(), "status" => status.as_u16().to_string()
        );
        let mut all = self.by_status.write().unwrap_or_else(PoisonError::into_inner);
        all.push((status, new.clone()));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_come_back() {
        let slots = Slots::new(2);
        let (one, two) = (slots.take(), slots.take());
        assert!(one.is_some() && two.is_some() && slots.take().is_none());
        assert!(!slots.has_room());
        drop(one);
        assert!(slots.has_room());
        let three = slots.take();
        assert!(three.is_some() && slots.take().is_none());
        drop((two, three));
        assert_eq!(slots.taken.load(Ordering::Relaxed), 0);
    }
}
