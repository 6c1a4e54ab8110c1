//! The transports beside plain HTTP, against the servers that forges run.

use crate::support::{CONFIG, DOCKERFILE, Place, child};
use node::git::{ChildProgram, FetchOrder};
use std::path::PathBuf;
use testkit::git_server::GitServer;
use testkit::ssh_server::SshServer;
use testkit::tls::Certificate;

/// A place whose child trusts this file instead of the machine's certificates.
fn trusting(place: &Place, url: &str, file: PathBuf) -> FetchOrder {
    let internal_fetch = child().program.into_os_string();
    let mut trust = std::ffi::OsString::from("SSL_CERT_FILE=");
    trust.push(file);
    FetchOrder {
        child: ChildProgram {
            program: PathBuf::from("/usr/bin/env"),
            args: vec![trust, internal_fetch],
        },
        ..place.order(url)
    }
}

#[tokio::test]
async fn https_with_a_trusted_certificate() {
    let certificate = Certificate::new();
    let server = GitServer::start_tls(&certificate).await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let place = Place::new();
    let fetched = place
        .run(trusting(&place, &repository.url, certificate.file()))
        .await
        .unwrap();
    let (dockerfile, entries) = place.context(fetched).await;
    assert_eq!(dockerfile, "Dockerfile");
    assert_eq!(entries.len(), 2);
}

#[tokio::test]
async fn https_with_a_certificate_that_nobody_vouches_for_is_refused() {
    let certificate = Certificate::new();
    let server = GitServer::start_tls(&certificate).await;
    let repository = server.repository("app", &[CONFIG, DOCKERFILE]);
    let place = Place::new();
    let other = Certificate::new();
    let refused = place
        .run(trusting(&place, &repository.url, other.file()))
        .await
        .expect_err("nobody vouches for it");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

async fn ssh_place(server: &SshServer, known_by: &str) -> Place {
    let mut place = Place::new();
    place.policy.ssh.key = Some(server.client_key());
    place.policy.ssh.known_hosts = vec![server.known_hosts(known_by)];
    place
}

#[tokio::test]
async fn ssh_with_a_key() {
    let git = GitServer::start().await;
    let repository = git.repository("app", &[CONFIG, DOCKERFILE]);
    let server = SshServer::start().await;
    let place = ssh_place(&server, "host").await;
    let fetched = place.fetch(&server.url(repository.bare())).await.unwrap();
    let (_, entries) = place.context(fetched).await;
    assert_eq!(entries.len(), 2);
}

#[tokio::test]
async fn ssh_with_another_host_key_than_the_known_one_is_refused() {
    let git = GitServer::start().await;
    let repository = git.repository("app", &[CONFIG, DOCKERFILE]);
    let server = SshServer::start().await;
    let place = ssh_place(&server, "client").await;
    let refused = place.refused(&server.url(repository.bare())).await;
    assert!(refused.to_string().contains("key"), "{refused}");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn ssh_without_a_key_that_the_server_lets_in_is_refused() {
    let git = GitServer::start().await;
    let repository = git.repository("app", &[CONFIG, DOCKERFILE]);
    let server = SshServer::start().await;
    let other = SshServer::start().await;
    let mut place = ssh_place(&server, "host").await;
    place.policy.ssh.key = Some(other.client_key());
    let refused = place.refused(&server.url(repository.bare())).await;
    assert!(refused.to_string().contains("does not accept"), "{refused}");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}
