//! What the builders say, told the way a person wants to read it: each step as it begins, what it
//! prints, what came from the cache, and how long a slow one took.

use crate::log_sink::LogSink;
use crate::text::{clean_line, cut};
use bollard::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog};
use bollard::models::{BuildInfo, BuildInfoAux};
use shared::status::LogStream;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How many lines of a failed step its failure tells.
const TAIL: usize = 20;

/// The longest line that is kept, in bytes: while its end has not come, and made safe to show.
const LINE_LIMIT: usize = 8 * 1024;

/// What is kept of all steps' last lines together, in bytes. Steps beside each other are few; a
/// Dockerfile that has thousands of them must not fill the node's memory.
const TAILS_LIMIT: usize = 2 * 1024 * 1024;

/// How many images made on the way are remembered: more than a Dockerfile has steps.
const MADE_LIMIT: usize = 256;

/// A step that took longer than this says how long.
const SLOW: Duration = Duration::from_secs(1);

/// Follows one build.
pub(super) struct Progress {
    log: LogSink,
    /// Steps of a BuildKit build by their digest; there are as many as instructions.
    steps: HashMap<String, Step>,
    /// The step that is being done: the latest that was announced.
    current: String,
    /// What the classic builder prints; it does one step after the other.
    classic: Step,
    /// Images that the classic builder made on the way, oldest first. A step can print the same
    /// words, so this is a hint.
    made: Vec<String>,
    from_cache: bool,
    /// The bytes of all steps' last lines.
    kept: usize,
}

#[derive(Default)]
struct Step {
    name: String,
    announced: bool,
    done: bool,
    error: Option<String>,
    stdout: Partial,
    stderr: Partial,
    tail: Tail,
}

/// The last lines of a step, for its failure to tell.
#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
}

impl Tail {
    /// Keeps a line in place of the oldest ones. `kept` counts the bytes of all steps: where they
    /// are too many this step alone pays for it.
    fn push(&mut self, kept: &mut usize, line: String) {
        while self.lines.len() >= TAIL || *kept + line.len() > TAILS_LIMIT {
            match self.lines.pop_front() {
                Some(oldest) => *kept -= oldest.len(),
                None => return,
            }
        }
        *kept += line.len();
        self.lines.push_back(line);
    }

    fn clear(&mut self, kept: &mut usize) {
        *kept -= self.lines.drain(..).map(|line| line.len()).sum::<usize>();
    }
}

/// A line whose end has not come.
#[derive(Default)]
struct Partial(Vec<u8>);

impl Partial {
    /// The lines that end with these bytes.
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_LIMIT.saturating_sub(self.0.len());
            self.0.extend_from_slice(&part[..part.len().min(room)]);
            if part.last() == Some(&b'\n') {
                lines.extend(self.take());
            }
        }
        lines
    }

    fn take(&mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        // A progress bar draws over itself: its last state is what one would see.
        Some(text.rsplit('\r').next().unwrap_or(text).to_owned())
    }
}

impl Step {
    fn say(&mut self, log: &LogSink, kept: &mut usize, stream: LogStream, line: &str) {
        log.line(stream, line);
        // What a step prints may be told after it has ended well; nobody will ask for it.
        if !self.is_well() {
            self.tail.push(kept, shown(line));
        }
    }

    /// Whether it has ended without an error.
    fn is_well(&self) -> bool {
        self.done && self.error.is_none()
    }
}

/// A line as it is shown, which may take more bytes than it had.
fn shown(line: &str) -> String {
    cut(&clean_line(line), LINE_LIMIT)
}

impl Progress {
    pub(super) fn new(log: LogSink) -> Self {
        Self {
            log,
            steps: HashMap::new(),
            current: "preparing".to_owned(),
            classic: Step::default(),
            made: Vec::new(),
            from_cache: false,
            kept: 0,
        }
    }

    /// What the classic builder may have left: images that it made on the way, the newest first.
    pub(super) fn made_on_the_way(&self) -> impl Iterator<Item = &str> {
        self.made.iter().rev().map(String::as_str)
    }

    /// Tells one message of the builder.
    pub(super) fn take(&mut self, info: BuildInfo) {
        if let Some(text) = info.stream {
            for line in self.classic.stdout.push(text.as_bytes()) {
                self.take_classic(&line);
            }
        }
        if let Some(BuildInfoAux::BuildKit(status)) = info.aux {
            self.take_buildkit(status);
        }
        // The classic builder pulls a base image with these; counting is left out.
        let counted = info
            .progress_detail
            .is_some_and(|detail| detail.total.is_some());
        if let (Some(status), false) = (info.status, counted) {
            self.log.line(LogStream::Stdout, &status);
        }
    }

    /// Tells what was printed without a line end.
    pub(super) fn finish(&mut self) {
        if let Some(line) = self.classic.stdout.take() {
            self.take_classic(&line);
        }
        for step in self.steps.values_mut() {
            flush(step, &self.log, &mut self.kept);
        }
    }

    /// The step that is being done.
    pub(super) fn current_step(&self) -> String {
        self.current.clone()
    }

    /// The failing step, its last lines, and the builder's words.
    pub(super) fn failure(&self, message: &str) -> String {
        // A step beside the failing one is cancelled with it; that one is not the cause.
        let guilty = |step: &&Step| {
            step.error
                .as_deref()
                .is_some_and(|error| !error.contains("context canceled"))
        };
        let step = self.steps.values().find(guilty).unwrap_or(&self.classic);
        let mut lines = Vec::new();
        if !step.name.is_empty() {
            lines.push(step.name.clone());
        }
        lines.extend(step.tail.lines.iter().cloned());
        lines.push(message.to_owned());
        lines.join("\n")
    }

    fn take_buildkit(&mut self, status: StatusResponse) {
        for vertex in status.vertexes {
            self.take_vertex(vertex);
        }
        for printed in status.logs {
            self.take_printed(&printed);
        }
    }

    fn take_vertex(&mut self, vertex: Vertex) {
        let step = self.steps.entry(vertex.digest).or_default();
        step.name = shown(&vertex.name);
        if !vertex.error.is_empty() {
            step.error = Some(cut(&vertex.error, LINE_LIMIT));
        }
        // How BuildKit gets its context and Dockerfile is nobody's concern.
        if step.name.starts_with("[internal]") || vertex.started.is_none() {
            return;
        }
        if !step.announced {
            step.announced = true;
            self.current.clone_from(&step.name);
            let cached = if vertex.cached { "CACHED " } else { "" };
            self.log
                .line(LogStream::Stdout, &format!("{cached}{}", step.name));
        } else if vertex.cached && !step.done {
            self.log
                .line(LogStream::Stdout, &format!("CACHED {}", step.name));
        }
        if let (Some(started), Some(completed), false) =
            (vertex.started, vertex.completed, step.done)
        {
            step.done = true;
            flush(step, &self.log, &mut self.kept);
            if step.is_well() {
                step.tail.clear(&mut self.kept);
            }
            let nanos = i64::from(completed.nanos - started.nanos);
            let took = (completed.seconds - started.seconds) as f64 + nanos as f64 / 1e9;
            if took >= SLOW.as_secs_f64() {
                self.log.line(
                    LogStream::Stdout,
                    &format!("done in {took:.1} s: {}", step.name),
                );
            }
        }
    }

    fn take_printed(&mut self, printed: &VertexLog) {
        let step = self.steps.entry(printed.vertex.clone()).or_default();
        let error = printed.stream == 2;
        let (partial, stream) = if error {
            (&mut step.stderr, LogStream::Stderr)
        } else {
            (&mut step.stdout, LogStream::Stdout)
        };
        for line in partial.push(&printed.msg) {
            step.say(&self.log, &mut self.kept, stream, &line);
        }
    }

    /// `Step 2/4 : RUN x`, what it prints, and the builder's own remarks between them.
    fn take_classic(&mut self, line: &str) {
        if let Some((count, instruction)) = line
            .strip_prefix("Step ")
            .and_then(|rest| rest.split_once(" : "))
        {
            self.classic.name = shown(&format!("[{count}] {instruction}"));
            self.classic.tail.clear(&mut self.kept);
            self.current.clone_from(&self.classic.name);
            // A base image was there before.
            self.from_cache = instruction.starts_with("FROM ");
            // Our own labels are a last step of this builder's, which nobody wrote.
            if !instruction.starts_with("LABEL longshore.") {
                self.log.line(LogStream::Stdout, &self.classic.name);
            }
        } else if line == " ---> Using cache" {
            self.log
                .line(LogStream::Stdout, &format!("CACHED {}", self.classic.name));
            self.from_cache = true;
        } else if let Some(image) = line.strip_prefix(" ---> ").filter(|rest| is_image(rest)) {
            if !self.from_cache && self.made.len() < MADE_LIMIT {
                self.made.push(image.to_owned());
            }
        } else if !is_remark(line) {
            let kept = &mut self.kept;
            self.classic.say(&self.log, kept, LogStream::Stdout, line);
        }
    }
}

/// The short id of an image.
fn is_image(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_remark(line: &str) -> bool {
    let remarks = [
        " ---> ",
        "Removing intermediate container ",
        "Successfully built ",
        "Successfully tagged ",
    ];
    line.trim().is_empty() || remarks.iter().any(|remark| line.starts_with(remark))
}

fn flush(step: &mut Step, log: &LogSink, kept: &mut usize) {
    if let Some(line) = step.stdout.take() {
        step.say(log, kept, LogStream::Stdout, &line);
    }
    if let Some(line) = step.stderr.take() {
        step.say(log, kept, LogStream::Stderr, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(digest: &str, name: &str) -> Vertex {
        Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: Some(Default::default()),
            ..Default::default()
        }
    }

    fn printed(vertex: &str, text: String) -> VertexLog {
        VertexLog {
            vertex: vertex.to_owned(),
            stream: 2,
            msg: text.into_bytes(),
            ..Default::default()
        }
    }

    /// What is kept, counted anew.
    fn kept(progress: &Progress) -> usize {
        let lines = progress.steps.values().flat_map(|step| &step.tail.lines);
        let kept = lines.map(String::len).sum();
        assert_eq!(progress.kept, kept);
        kept
    }

    #[test]
    fn a_progress_bar_is_told_once() {
        let mut partial = Partial::default();
        assert!(partial.push(b" 10%\r 50%\r").is_empty());
        assert_eq!(partial.push(b"100%\r\nnext"), ["100%"]);
        assert_eq!(partial.take().as_deref(), Some("next"));
    }

    #[test]
    fn the_classic_builders_words_are_told_like_buildkits() {
        let (log, mut lines) = LogSink::collecting();
        let mut progress = Progress::new(log);
        for text in [
            "Step 1/2 : FROM a",
            "\n",
            " ---> 0123456789ab\nStep 2/2 : RUN b\n ---> Running in 9\nhello\n",
            " ---> 1123456789ab\n",
            "oops",
        ] {
            progress.take(BuildInfo {
                stream: Some(text.to_owned()),
                ..Default::default()
            });
        }
        progress.finish();
        assert_eq!(
            lines.texts(),
            ["[1/2] FROM a", "[2/2] RUN b", "hello", "oops"]
        );
        assert_eq!(
            progress.failure("exit 3"),
            "[2/2] RUN b\nhello\noops\nexit 3"
        );
        assert!(progress.made_on_the_way().eq(["1123456789ab"]));
        assert_eq!(progress.current_step(), "[2/2] RUN b");
    }

    #[test]
    fn a_failing_step_is_told_with_its_last_lines() {
        let (log, mut lines) = LogSink::collecting();
        let mut progress = Progress::new(log);
        let cached = Vertex {
            cached: true,
            ..vertex("a", "[1/2] FROM x")
        };
        let internal = vertex("i", "[internal] load build context");
        let status = StatusResponse {
            vertexes: vec![internal, cached, vertex("b", "[2/2] RUN y")],
            ..Default::default()
        };
        progress.take_buildkit(status);
        for number in 0..30 {
            progress.take_printed(&printed("b", format!("line {number}\n")));
        }
        let failed = Vertex {
            error: "exit code: 3".to_owned(),
            ..vertex("b", "[2/2] RUN y")
        };
        progress.take_buildkit(StatusResponse {
            vertexes: vec![failed],
            ..Default::default()
        });
        let told = lines.texts();
        assert_eq!(&told[..3], ["CACHED [1/2] FROM x", "[2/2] RUN y", "line 0"]);
        let failure = progress.failure("exit code: 3");
        assert!(
            failure.starts_with("[2/2] RUN y\nline 10\n")
                && failure.ends_with("line 29\nexit code: 3"),
            "{failure}"
        );
    }

    #[test]
    fn nothing_is_kept_of_a_step_that_ended_well() {
        let mut progress = Progress::new(LogSink::nowhere());
        let done = |error: &str| Vertex {
            completed: Some(Default::default()),
            error: error.to_owned(),
            ..vertex("a", "[1/2] RUN x")
        };
        progress.take_vertex(vertex("a", "[1/2] RUN x"));
        progress.take_printed(&printed("a", "early\nhalf".to_owned()));
        assert_eq!(kept(&progress), "early".len());
        progress.take_vertex(done(""));
        progress.take_printed(&printed("a", "late\n".to_owned()));
        assert_eq!(kept(&progress), 0);
        // BuildKit tells of one vertex more than once.
        progress.take_vertex(done("exit code: 3"));
        progress.take_printed(&printed("a", "why\n".to_owned()));
        assert_eq!(progress.failure("end"), "[1/2] RUN x\nwhy\nend");
    }

    #[test]
    fn what_is_kept_has_a_limit_a_line_and_one_for_all_steps() {
        let mut progress = Progress::new(LogSink::nowhere());
        // Each of these characters is shown as five.
        let line = "\u{1}".repeat(LINE_LIMIT) + "\n";
        for step in 0..16 {
            let digest = step.to_string();
            progress.take_vertex(vertex(&digest, &line));
            for _ in 0..TAIL {
                progress.take_printed(&printed(&digest, line.clone()));
            }
        }
        let room = TAILS_LIMIT - LINE_LIMIT..=TAILS_LIMIT;
        assert!(room.contains(&kept(&progress)), "{}", kept(&progress));
        for step in progress.steps.values() {
            let lines = step.tail.lines.iter().chain([&step.name]);
            assert!(lines.map(String::len).all(|length| length <= LINE_LIMIT));
        }
    }
}
