use super::*;
use shared::id::StoreIncarnation;
use shared::message::{DeployWork, PortOffer, ServiceSelection, WorkRequest};
use shared::name::{DeploymentName, ServiceName};
use shared::source::{ImageRef, ImageSource, Source};
use shared::spec::{About, DeploymentSpec};
use shared::status::Method;

const AS_OF: i64 = 10;

/// One deployment, its picture and what it has here.
#[derive(Clone)]
struct Case {
    deployment_id: DeploymentId,
    revisions: [RevisionId; 3],
    picture: Vec<Assigned>,
    record: Option<DeploymentRecord>,
    work: Vec<WorkEntry>,
    standings: Vec<(RevisionId, Standing)>,
    containers: Vec<ContainerFacts>,
    is_leaving: bool,
}

const fn attempt(revision: i32, epoch: i32) -> Attempt {
    Attempt { revision, epoch }
}

impl Case {
    fn new() -> Self {
        Self {
            deployment_id: DeploymentId::new(),
            revisions: [RevisionId::new(), RevisionId::new(), RevisionId::new()],
            picture: Vec::new(),
            record: None,
            work: Vec::new(),
            standings: Vec::new(),
            containers: Vec::new(),
            is_leaving: false,
        }
    }

    fn id(&self, revision: i32) -> RevisionId {
        self.revisions[usize::try_from(revision - 1).unwrap()]
    }

    fn assigned(&self, revision: i32, epoch: i32, status: S) -> Assigned {
        Assigned {
            deployment_id: self.deployment_id,
            deployment_name: DeploymentName::parse("app").unwrap(),
            revision_id: self.id(revision),
            revision,
            epoch,
            last_report_seq: 5,
            status,
            destroying: false,
        }
    }

    fn named(mut self, revision: i32, epoch: i32, status: S) -> Self {
        self.picture.push(self.assigned(revision, epoch, status));
        self
    }

    fn destroying(mut self) -> Self {
        for assigned in &mut self.picture {
            assigned.destroying = true;
        }
        self
    }

    fn recorded(mut self) -> Self {
        let name = DeploymentName::parse("app").unwrap();
        self.record
            .get_or_insert_with(|| DeploymentRecord::new(self.deployment_id, name));
        self
    }

    fn serves(self, revision: i32, epoch: i32, given: i64) -> Self {
        let mut case = self.recorded();
        let running = RunningRevision {
            revision_id: case.id(revision),
            attempt: attempt(revision, epoch),
            commit: None,
            image_digest: None,
            content_hash: String::new(),
            spec: DeploymentSpec {
                services: Vec::new(),
                method: Method::Rolling,
                about: About::default(),
            },
            ports: Vec::new(),
            services: vec![crate::journal::RunningService {
                name: ServiceName::app(),
                container: "c".to_owned(),
                image: "i".to_owned(),
                address: None,
                stopped: false,
            }],
            since: chrono::Utc::now(),
            given,
        };
        case.record.as_mut().unwrap().current = Some(running);
        case.contains(revision, epoch)
    }

    fn retires(self, revision: i32, epoch: i32) -> Self {
        let mut case = self.recorded();
        let record = case.record.as_mut().unwrap();
        record.retiring.push(attempt(revision, epoch));
        case
    }

    fn contains(mut self, revision: i32, epoch: i32) -> Self {
        self.containers.push(ContainerFacts {
            id: format!("{revision}.{epoch}"),
            deployment_id: self.deployment_id,
            service: ServiceName::app(),
            attempt: attempt(revision, epoch),
            store: None,
        });
        self
    }

    fn works(mut self, revision: i32, epoch: i32, action: WorkAction) -> Self {
        let request = WorkRequest {
            id: WorkId::new(),
            store: StoreIncarnation::new(),
            deployment_id: self.deployment_id,
            deployment_name: DeploymentName::parse("app").unwrap(),
            revision_id: self.id(revision),
            revision,
            epoch,
            last_report_seq: 0,
            action,
        };
        self.work.push(WorkEntry {
            arrival: u64::try_from(self.work.len()).unwrap(),
            attempts: 0,
            request,
        });
        self
    }

    fn deploys(self, revision: i32, epoch: i32, given: i64) -> Self {
        let image = ImageRef::parse("busybox").unwrap();
        let work = DeployWork {
            source: Source::Image(ImageSource { image, port: None }),
            commit: None,
            method: None,
            ports: PortOffer::default(),
            given,
        };
        self.works(revision, epoch, WorkAction::Deploy(work))
    }

    fn said(mut self, revision: i32, epoch: i32, status: S) -> Self {
        let standing = Standing {
            deployment_id: self.deployment_id,
            epoch,
            last_seq: 5,
            status: Some(status),
            failure_reason: None,
            detail: None,
        };
        self.standings.push((self.id(revision), standing));
        self
    }

    fn leaving(mut self) -> Self {
        self.is_leaving = true;
        self
    }

    fn dropped(&self) -> Step {
        Step::Drop(self.work.iter().map(|entry| entry.request.id).collect())
    }

    fn missing(&self, revision: i32, epoch: i32, status: S, adoptable: bool) -> Step {
        Step::Missing {
            assigned: Box::new(self.assigned(revision, epoch, status)),
            adoptable,
        }
    }

    fn again(&self, revision: i32, epoch: i32, status: S, is: S) -> Step {
        Step::SayAgain {
            assigned: Box::new(self.assigned(revision, epoch, status)),
            status: is,
        }
    }

    fn plan(&self) -> Vec<Step> {
        let wanted = Wanted {
            as_of: AS_OF,
            revisions: self.picture.clone(),
        };
        let local = Local {
            record: self.record.as_ref(),
            work: self.work.iter().collect(),
            standings: self
                .standings
                .iter()
                .map(|(id, standing)| (*id, standing))
                .collect(),
            containers: self.containers.iter().collect(),
            is_leaving: self.is_leaving,
        };
        plan(&wanted, &local)
    }
}

fn check(what: &str, case: &Case, steps: &[Step]) {
    assert_eq!(case.plan(), steps, "{what}");
}

fn removed(attempts: &[Attempt]) -> Step {
    Step::Remove(attempts.iter().copied().collect())
}

fn start() -> WorkAction {
    WorkAction::Start(ServiceSelection::default())
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let new = Case::new;
    check("nothing", &new(), &[]);
    let serves = new().serves(1, 1, 3).said(1, 1, S::Running);
    check("it serves", &serves.clone().named(1, 1, S::Running), &[]);
    let failed = new().serves(1, 1, 3).said(1, 1, S::Failed);
    check(
        "it failed after it had served",
        &failed.named(1, 1, S::Failed),
        &[],
    );
    check(
        "a candidate beside it",
        &serves
            .clone()
            .named(1, 1, S::Running)
            .named(2, 1, S::Building)
            .deploys(2, 1, 4)
            .contains(2, 1),
        &[],
    );
    check(
        "the replaced one is on its way out",
        &serves.named(1, 1, S::Running).retires(3, 1).contains(3, 1),
        &[],
    );
}

#[test]
fn what_is_newer_than_the_picture_stays() {
    let new = Case::new;
    check(
        "it serves",
        &new().serves(1, 1, 11).said(1, 1, S::Running),
        &[],
    );
    check(
        "it is under way",
        &new().deploys(1, 1, 11).contains(1, 1),
        &[],
    );
    check(
        "a newer attempt of what is named",
        &new().named(1, 1, S::Building).deploys(1, 2, 11),
        &[],
    );
    let late = new()
        .named(1, 1, S::Running)
        .serves(2, 1, 11)
        .said(1, 1, S::Running)
        .said(2, 1, S::Running);
    check("it has replaced what is named", &late, &[]);
}

#[test]
fn an_older_attempt_than_named_goes() {
    let new = Case::new;
    let serves = new().named(1, 2, S::Initialized).serves(1, 1, 3);
    check("it serves", &serves, &[Step::Evict(attempt(1, 1))]);
    let works = new().named(1, 2, S::Initialized).deploys(1, 1, 3);
    check("it is under way", &works, &[works.dropped()]);
    let starts = new()
        .named(1, 2, S::Initialized)
        .serves(1, 1, 3)
        .works(1, 1, start());
    check(
        "it is being started",
        &starts,
        &[starts.dropped(), Step::Evict(attempt(1, 1))],
    );
    check(
        "only labels tell of it",
        &new().named(1, 2, S::Initialized).contains(1, 1),
        &[removed(&[attempt(1, 1)])],
    );
}

#[test]
fn what_is_not_named_goes_and_all_of_the_deployment_when_nothing_is() {
    let new = Case::new;
    let works = new().deploys(1, 1, 3);
    check("only work", &works, &[works.dropped()]);
    let both = new().deploys(1, 1, 3).contains(1, 1);
    check("work and containers", &both, &[both.dropped(), Step::Leave]);
    check("it serves", &new().serves(1, 1, 3), &[Step::Leave]);
    check("an old journal", &new().serves(1, 1, 0), &[Step::Leave]);
    check("only labels", &new().contains(1, 1), &[Step::Leave]);
    check("only a record", &new().recorded(), &[Step::Leave]);
    check("begun before", &new().leaving(), &[Step::Leave]);
    check(
        "another revision is named",
        &new()
            .named(2, 1, S::Building)
            .serves(1, 1, 3)
            .deploys(2, 1, 4),
        &[Step::Evict(attempt(1, 1))],
    );
    check(
        "a newer placement waits",
        &new().serves(1, 1, 3).deploys(2, 1, 11),
        &[Step::Evict(attempt(1, 1))],
    );
    check(
        "strays beside what serves",
        &new()
            .named(2, 1, S::Running)
            .serves(2, 1, 3)
            .said(2, 1, S::Running)
            .contains(1, 1)
            .contains(1, 2),
        &[removed(&[attempt(1, 1), attempt(1, 2)])],
    );
}

#[test]
fn what_is_being_destroyed_is_left_to_the_order() {
    let new = Case::new;
    let destroying = new().named(1, 2, S::Running).destroying().serves(1, 1, 3);
    check("by the picture", &destroying, &[]);
    let destroy = WorkAction::Destroy { volumes: true };
    check(
        "by an order that is here",
        &new().serves(1, 1, 3).works(1, 1, destroy),
        &[],
    );
}

#[test]
fn what_is_named_and_not_here_is_missing() {
    // Also what was on its way back to serving when the journal was lost.
    let settled = [S::Running, S::Degraded, S::Stopped];
    for status in settled.into_iter().chain([S::Starting, S::Verifying]) {
        let gone = Case::new().named(1, 1, status);
        check("gone", &gone, &[gone.missing(1, 1, status, false)]);
        let there = Case::new().named(1, 1, status).contains(1, 1);
        check("adoptable", &there, &[there.missing(1, 1, status, true)]);
        let other = Case::new().named(1, 2, status).contains(1, 1);
        check(
            "another attempt is no adoption",
            &other,
            &[
                removed(&[attempt(1, 1)]),
                other.missing(1, 2, status, false),
            ],
        );
        check(
            "work is under way",
            &Case::new().named(1, 1, status).deploys(1, 1, 3),
            &[],
        );
    }
    for status in [S::Initialized, S::Fetching, S::Building] {
        check("open", &Case::new().named(1, 1, status).contains(1, 1), &[]);
    }
}

#[test]
fn what_the_picture_has_otherwise_is_said_again() {
    let new = Case::new;
    let serves = new().named(1, 1, S::Verifying).serves(1, 1, 3);
    check(
        "a report was lost",
        &serves.clone().said(1, 1, S::Running),
        &[serves.again(1, 1, S::Verifying, S::Running)],
    );
    check(
        "the store was replaced",
        &serves,
        &[serves.again(1, 1, S::Verifying, S::Running)],
    );
    let lost = new().named(1, 1, S::Degraded).serves(1, 1, 3);
    check(
        "the node was lost",
        &lost.clone().said(1, 1, S::Running),
        &[lost.again(1, 1, S::Degraded, S::Running)],
    );
    let failed = new().named(1, 1, S::Verifying).recorded();
    check(
        "it failed",
        &failed.clone().said(1, 1, S::Failed),
        &[failed.again(1, 1, S::Verifying, S::Failed)],
    );
    check(
        "of another attempt",
        &failed.clone().said(1, 2, S::Failed),
        &[failed.missing(1, 1, S::Verifying, false)],
    );
    let ended = new().named(1, 1, S::Stopped).serves(1, 1, 3);
    check(
        "a cancel was said of it before it was taken up",
        &ended.clone().said(1, 1, S::Cancelled),
        &[ended.again(1, 1, S::Stopped, S::Running)],
    );
    check(
        "work is under way",
        &serves.said(1, 1, S::Running).works(1, 1, start()),
        &[],
    );
}
