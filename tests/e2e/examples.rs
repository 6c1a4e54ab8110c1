//! Every folder of `examples/` deploys and answers.

use crate::process::Standalone;
use std::path::Path;
use testkit::body_of;
use testkit::git_server::GitServer;

#[tokio::test]
async fn all_four_examples_build_and_answer() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let git = GitServer::start().await;
    let server = Standalone::start().await;
    let mut ids = Vec::new();
    for name in ["hello", "python", "node", "static"] {
        let repository = git.repository_of(name, &examples.join(name));
        let deployment = server.api.create_git(name, &repository.url).await;
        ids.push((name, deployment["id"].as_str().expect("an id").to_owned()));
    }
    for (name, id) in &ids {
        let running = server.api.until_status(id, "RUNNING").await;
        let url = running["url"].as_str().expect("a URL");
        let body = body_of(url)
            .await
            .unwrap_or_else(|| panic!("{name} answers at {url}"));
        assert!(body.to_lowercase().contains("hello"), "{name}: {body}");
    }
    server.clean_up().await;
}
