//! Event handlers: host scripts that are run when something happens.

use super::run::LineHost;
use crate::base::Result;
use crate::commands::EVENTS;

/// One handler.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Handler {
    name: String,
    number: u64,
    /// Which of [`EVENTS`], by index.
    events: Vec<usize>,
    script: String,
}

/// The handlers in force, in the order in which they were registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handlers {
    all: Vec<Handler>,
    next: u64,
}

/// Reads a set of events: `*`, or names with commas between.
fn set(text: &str) -> std::result::Result<Vec<usize>, String> {
    if text == "*" {
        return Ok((0..EVENTS.len()).collect());
    }
    let mut events = Vec::new();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let name = if word == "launch" { "launch_done" } else { word };
        match EVENTS.iter().position(|event| *event == name) {
            Some(index) => events.push(index),
            None => return Err(format!("unknown event name: {word}")),
        }
    }
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

impl Handlers {
    /// Registers one.
    ///
    /// # Errors
    /// An unknown event, as a whole message.
    pub fn add(&mut self, name: &str, events: &str, script: &str) -> std::result::Result<(), String> {
        let events = set(events)?;
        let number = self.next;
        self.next += 1;
        self.all.push(Handler { name: name.to_string(), number, events, script: script.to_string() });
        Ok(())
    }

    /// Forgets all of a name; answers whether there were any. As in libguestfs, only the number that was given out last is given
    /// again.
    pub fn remove(&mut self, name: &str) -> bool {
        let (gone, kept): (Vec<Handler>, _) = self.all.drain(..).partition(|handler| handler.name == name);
        self.all = kept;
        for handler in &gone {
            self.next -= u64::from(handler.number + 1 == self.next);
        }
        !gone.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Handlers::default();
    }

    /// `"NAME" (N): SET: SCRIPT` lines.
    pub fn list(&self) -> Vec<Vec<u8>> {
        let line = |h: &Handler| {
            let names: Vec<&str> = h.events.iter().map(|index| EVENTS[*index]).collect();
            let set = if names.len() == EVENTS.len() { "*".to_string() } else { names.join(",") };
            format!("\"{}\" ({}): {set}: {}", h.name, h.number, h.script).into_bytes()
        };
        self.all.iter().map(line).collect()
    }

    /// Runs the handlers of an event; answers whether there were any.
    ///
    /// # Errors
    /// A script that could not be started.
    pub fn fire(&self, host: &dyn LineHost, event: &str, arguments: &[String]) -> Result<bool> {
        let mut any = false;
        for handler in self.all.iter().filter(|h| h.events.iter().any(|index| EVENTS[*index] == event)) {
            any = true;
            host.handle_event(&handler.script, event, arguments)?;
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_lists() {
        let mut handlers = Handlers::default();
        handlers.add("e1", "trace,close", "echo $EVENT").unwrap();
        handlers.add("e1", "launch", "x").unwrap();
        handlers.add("e2", "*", "y").unwrap();
        handlers.add("e3", "warning,,trace,enter", "z").unwrap();
        assert_eq!(handlers.list()[0], b"\"e1\" (0): close,trace: echo $EVENT");
        assert_eq!(handlers.list()[1], b"\"e1\" (1): launch_done: x");
        assert_eq!(handlers.list()[2], b"\"e2\" (2): *: y");
        assert_eq!(handlers.list()[3], b"\"e3\" (3): enter,trace,warning: z");
        assert!(handlers.remove("e1") && !handlers.remove("e1"));
        assert_eq!(handlers.list().len(), 2);
        handlers.remove("e3");
        handlers.remove("e2");
        handlers.add("e4", "enter", "a").unwrap();
        assert_eq!(handlers.list(), [b"\"e4\" (2): enter: a"]);
        assert_eq!(handlers.add("a", "bogus", "x").unwrap_err(), "unknown event name: bogus");
    }
}
