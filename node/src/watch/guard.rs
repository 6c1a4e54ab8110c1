//! One service that runs: whether it is up, by what is asked of it and what happens to it.

use crate::action::health::{Answer, Death, Question};
use crate::journal::RunningService;
use shared::spec::ServiceSpec;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The first pause after a service went down; the next ones are longer, up to its interval.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Deaths within this time of each other are one crash loop.
const LOOP_WINDOW: Duration = Duration::from_secs(120);

/// The longest that a service that keeps crashing has to stay up to count as up.
const LONGEST_SETTLING: Duration = Duration::from_secs(30);

/// Whether a service is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is.
    Up,
    /// It is not, and why.
    Down(String),
}

/// One service that runs.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) spec: ServiceSpec,
    pub(super) service: RunningService,
    pub(super) question: Question,
    pub(super) standing: Standing,
    /// How often the engine started it again.
    pub(super) restarts: u32,
    /// When it is looked at next.
    pub(super) due: Instant,
    /// Since when its container is there and neither runs nor is about to.
    pub(super) idle_since: Option<Instant>,
    failures: u32,
    deaths: VecDeque<Instant>,
    pause: Duration,
}

impl Guard {
    pub(super) fn new(
        spec: ServiceSpec,
        service: RunningService,
        question: Question,
        now: Instant,
    ) -> Self {
        Self {
            spec,
            service,
            question,
            standing: Standing::Up,
            restarts: 0,
            due: now,
            idle_since: None,
            failures: 0,
            deaths: VecDeque::new(),
            pause: FIRST_PAUSE,
        }
    }

    /// Its container ended: it is down at once.
    pub(super) fn died(&mut self, death: &Death, lines: &str, now: Instant) {
        while self
            .deaths
            .front()
            .is_some_and(|first| now.duration_since(*first) > LOOP_WINDOW)
        {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        self.standing = Standing::Down(format!(
            "service {} {}{lines}",
            self.service.name,
            death.in_words()
        ));
        self.look_soon(now);
    }

    /// It is down for a reason other than its end.
    pub(super) fn is_down(&mut self, reason: String, now: Instant) {
        if self.standing == Standing::Up {
            self.standing = Standing::Down(reason);
            self.look_soon(now);
        }
    }

    /// It was asked.
    pub(super) fn answered(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Healthy => {
                self.failures = 0;
                if self.has_settled(now) {
                    self.standing = Standing::Up;
                }
            }
            Answer::Unhealthy(reason) => {
                self.failures = self.failures.saturating_add(1);
                // The engine counts the failures of a check that it runs by itself.
                let enough = if self.question == Question::Engine {
                    1
                } else {
                    self.spec.health.retries.max(1)
                };
                if self.failures >= enough {
                    self.is_down(
                        format!("service {} is not healthy: {reason}", self.service.name),
                        now,
                    );
                }
            }
            Answer::NotYet(_) => {}
        }
    }

    /// When it is looked at next: at its interval while it is up, sooner while it is not.
    pub(super) fn plan(&mut self, now: Instant) {
        if self.standing == Standing::Up {
            self.pause = FIRST_PAUSE;
            self.due = now + self.spec.health.interval.max(FIRST_PAUSE);
        } else {
            self.due = now + self.pause;
            self.pause = (self.pause * 2)
                .min(self.spec.health.interval.max(FIRST_PAUSE))
                .min(Duration::from_secs(2));
        }
    }

    fn look_soon(&mut self, now: Instant) {
        self.failures = 0;
        self.pause = FIRST_PAUSE;
        self.due = now + FIRST_PAUSE;
    }

    /// The first crash is over when it answers; one in a row of crashes, when it has stayed up for
    /// longer each time.
    fn has_settled(&self, now: Instant) -> bool {
        let Some(last) = self.deaths.back() else {
            return true;
        };
        let repeats = u32::try_from(self.deaths.len() - 1).unwrap_or(u32::MAX);
        if repeats == 0 {
            return true;
        }
        let settling = Duration::from_secs(1)
            .saturating_mul(2u32.saturating_pow(repeats))
            .min(LONGEST_SETTLING);
        now.duration_since(*last) >= settling
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::name::ServiceName;
    use shared::source::ImageRef;
    use shared::spec::{HealthSpec, ImageSpec, Resources};

    fn guard(now: Instant) -> Guard {
        let spec = ServiceSpec {
            name: ServiceName::app(),
            image: ImageSpec::Pull {
                image: ImageRef::parse("busybox").unwrap(),
            },
            command: None,
            env: std::collections::BTreeMap::new(),
            ports: vec![80],
            volumes: Vec::new(),
            health: HealthSpec::default(),
            resources: Resources::default(),
            domain: None,
        };
        let service = RunningService {
            name: ServiceName::app(),
            container: "c".to_owned(),
            image: "i".to_owned(),
            address: None,
            stopped: false,
        };
        Guard::new(spec, service, Question::KeepsRunning, now)
    }

    #[test]
    fn a_single_failed_check_is_no_news() {
        let now = Instant::now();
        let mut guard = guard(now);
        for _ in 0..2 {
            guard.answered(Answer::Unhealthy("refused".to_owned()), now);
            assert_eq!(guard.standing, Standing::Up);
        }
        guard.answered(Answer::Unhealthy("refused".to_owned()), now);
        assert!(matches!(&guard.standing, Standing::Down(reason) if reason.contains("refused")));
        guard.answered(Answer::Healthy, now);
        assert_eq!(guard.standing, Standing::Up);
    }

    #[test]
    fn a_crash_loop_has_to_settle_for_longer_each_time() {
        let start = Instant::now();
        let mut guard = guard(start);
        let death = Death {
            exit_code: Some(1),
            out_of_memory: false,
        };
        guard.died(&death, "", start);
        guard.answered(Answer::Healthy, start);
        assert_eq!(
            guard.standing,
            Standing::Up,
            "the first crash is over when it answers"
        );
        guard.died(&death, "", start);
        guard.answered(Answer::Healthy, start + Duration::from_millis(1900));
        assert_ne!(guard.standing, Standing::Up);
        guard.answered(Answer::Healthy, start + Duration::from_secs(2));
        assert_eq!(guard.standing, Standing::Up);
    }
}
