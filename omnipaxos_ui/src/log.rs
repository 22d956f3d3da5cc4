//! Log lines: from a logger, through a queue that never waits, to the dashboard.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, Serializer, KV};
use std::{
    collections::VecDeque,
    fmt::{Arguments, Write},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{sync_channel, Receiver, SyncSender},
        Arc, Mutex, PoisonError,
    },
    time::{Duration, Instant},
};

/// The longest text of a line, in characters. A longer text is cut.
const LONGEST_TEXT: usize = 400;

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The time of the line, by the clock of the queue or of the program that added it.
    pub at: Duration,
    /// The severity.
    pub level: Level,
    /// The text, in one line.
    pub text: String,
}

/// A line, or the number of missing lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogItem {
    /// A line.
    Line(LogLine),
    /// This number of lines was dropped here, since the queue was full.
    Dropped(u64),
}

/// A bounded queue of log lines, from loggers on any threads to one reader.
///
/// A logger never waits: if there is no room for a line, the line is dropped and counted.
#[derive(Clone, Debug)]
pub struct LogQueue {
    room: usize,
    started: Instant,
    sender: SyncSender<LogLine>,
    receiver: Arc<Mutex<Receiver<LogLine>>>,
    dropped: Arc<AtomicU64>,
}

impl LogQueue {
    /// Creates an empty queue for at most `room` lines.
    pub fn with_room(room: usize) -> Self {
        let (sender, receiver) = sync_channel(room);
        Self {
            room,
            started: Instant::now(),
            sender,
            receiver: Arc::new(Mutex::new(receiver)),
            dropped: Arc::default(),
        }
    }

    /// Returns a logger that writes to this queue.
    pub fn logger(&self) -> Logger {
        Logger::root(self.clone(), slog::o!())
    }

    /// Takes the waiting lines, oldest first; then the number dropped since the last call, if any.
    pub fn take(&self) -> Vec<LogItem> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        // Read first: a line that is dropped now counts at the next call.
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        // At most `room` lines: a logger without end must not keep this loop running.
        let mut items: Vec<_> = receiver.try_iter().take(self.room).map(LogItem::Line).collect();
        items.extend((dropped > 0).then_some(LogItem::Dropped(dropped)));
        items
    }
}

impl Drain for LogQueue {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, logger: &OwnedKVList) -> Result<(), Never> {
        let line = LogLine {
            at: self.started.elapsed(),
            level: record.level(),
            text: text(record, logger),
        };
        if self.sender.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Returns the message and the values of a record in one line.
fn text(record: &Record<'_>, logger: &OwnedKVList) -> String {
    let mut values = Values(record.msg().to_string());
    // A value that cannot be formatted is omitted: the rest of the line is still useful.
    let _ = record.kv().serialize(record, &mut values);
    let _ = logger.serialize(record, &mut values);
    let mut text: String = values.0.chars().take(LONGEST_TEXT).collect();
    if text.len() < values.0.len() {
        text.push('…');
    }
    text.replace(char::is_control, " ")
}

struct Values(String);

impl Serializer for Values {
    fn emit_arguments(&mut self, key: slog::Key, value: &Arguments<'_>) -> slog::Result {
        write!(self.0, ", {key}: {value}").map_err(slog::Error::from)
    }
}

/// The last lines of a log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    items: VecDeque<LogItem>,
    dropped: u64,
}

impl Log {
    /// The number of lines that are kept.
    pub const KEPT: usize = 1024;

    /// Appends the items of a queue. If there are too many, the oldest ones are removed.
    pub fn extend(&mut self, items: impl IntoIterator<Item = LogItem>) {
        for item in items {
            if let LogItem::Dropped(lines) = item {
                self.dropped = self.dropped.saturating_add(lines);
            }
            if self.items.len() == Self::KEPT {
                self.items.pop_front();
            }
            self.items.push_back(item);
        }
    }

    /// Returns the kept items, oldest first.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = &LogItem> + ExactSizeIterator {
        self.items.iter()
    }

    /// Returns the total number of lines that were dropped before they came here.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::{Log, LogItem, LogQueue, LONGEST_TEXT};
    use slog::{info, warn, Level};

    fn texts(queue: &LogQueue) -> Vec<String> {
        let shown = |item| match item {
            LogItem::Line(line) => format!("{} {}", line.level, line.text),
            LogItem::Dropped(lines) => format!("dropped {lines}"),
        };
        queue.take().into_iter().map(shown).collect()
    }

    #[test]
    fn a_line_has_its_values_and_no_line_breaks() {
        let queue = LogQueue::with_room(8);
        let logger = queue.logger().new(slog::o!("pid" => 2));
        info!(logger, "leads"; "n" => 7, "what" => "a\nb\tc");
        warn!(logger, "{}", "x".repeat(LONGEST_TEXT + 1));
        let lines = texts(&queue);
        assert_eq!(lines[0], "INFO leads, what: a b c, n: 7, pid: 2");
        assert!(lines[1].starts_with("WARN xxx") && lines[1].ends_with("x…"), "{}", lines[1]);
        assert_eq!(texts(&queue), [""; 0]);
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted_once() {
        let queue = LogQueue::with_room(2);
        let logger = queue.logger();
        for number in 0..5 {
            info!(logger, "{number}");
        }
        assert_eq!(texts(&queue), ["INFO 0", "INFO 1", "dropped 3"]);
        info!(logger, "later");
        assert_eq!(texts(&queue), ["INFO later"]);
    }

    #[test]
    fn loggers_on_other_threads_do_not_wait_for_the_one_that_shows() {
        let queue = LogQueue::with_room(10);
        let shown = queue.receiver.lock().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|number| info!(queue.logger(), "{number}")));
            }
        });
        drop(shown);
        assert_eq!(texts(&queue).len(), 11);
        assert!(queue.take().is_empty());
    }

    #[test]
    fn a_log_keeps_the_newest_and_counts_what_was_dropped() {
        let line = |text: usize| {
            LogItem::Line(super::LogLine {
                at: Default::default(),
                level: Level::Info,
                text: text.to_string(),
            })
        };
        let mut log = Log::default();
        log.extend((0..Log::KEPT + 5).map(line));
        assert_eq!(log.items().len(), Log::KEPT);
        assert_eq!(log.items().next(), Some(&line(5)));
        log.extend([LogItem::Dropped(7), LogItem::Dropped(u64::MAX)]);
        assert_eq!(log.dropped(), u64::MAX);
    }
}
