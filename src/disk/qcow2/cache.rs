//! A bounded cache, oldest out first: L2 tables, refcount blocks, inflated clusters.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Values by host offset, at most `limit` bytes of them (and always at least one).
pub(super) struct Cache<T> {
    limit: usize,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    values: HashMap<u64, Arc<T>>,
    order: VecDeque<(u64, usize)>,
    used: usize,
}

impl<T> Cache<T> {
    pub fn new(limit: usize) -> Self {
        Cache { limit, inner: Mutex::new(Inner { values: HashMap::new(), order: VecDeque::new(), used: 0 }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value at `key`, made by `load` (outside the lock) where it is not there.
    pub fn get<E>(&self, key: u64, size: usize, load: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        if let Some(value) = self.lock().values.get(&key) {
            return Ok(value.clone());
        }
        let value = Arc::new(load()?);
        self.keep(key, size, value.clone());
        Ok(value)
    }

    /// Whether there is a value at `key`.
    pub fn has(&self, key: u64) -> bool {
        self.lock().values.contains_key(&key)
    }

    /// Keeps a value.
    pub fn put(&self, key: u64, size: usize, value: T) {
        self.keep(key, size, Arc::new(value));
    }

    fn keep(&self, key: u64, size: usize, value: Arc<T>) {
        let mut inner = self.lock();
        if inner.values.insert(key, value).is_none() {
            inner.order.push_back((key, size));
            inner.used = inner.used.saturating_add(size);
        }
        while inner.used > self.limit && inner.order.len() > 1 {
            if let Some((old, size)) = inner.order.pop_front() {
                inner.values.remove(&old);
                inner.used = inner.used.saturating_sub(size);
            }
        }
    }

    /// Forgets everything: the places may be reused for something else.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.values.clear();
        inner.order.clear();
        inner.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_below_its_limit() {
        let cache = Cache::new(100);
        for key in 0..50 {
            assert_eq!(*cache.get(key, 30, || Ok::<_, ()>(key)).unwrap(), key);
        }
        assert_eq!(cache.lock().values.len(), 3);
        assert_eq!(*cache.get(49, 30, || Err(())).unwrap(), 49);
        assert!(cache.get(1, 30, || Err(())).is_err());
    }
}
