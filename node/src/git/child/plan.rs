//! What a fetch comes to: which commit, what to run, what the image is made of.

use super::Trouble;
use super::builtin::{self, Facts, Package};
use super::census::Census;
use super::depot::Depot;
use super::dockerfile;
use super::dockerignore::Ignore;
use super::near_miss;
use super::remote::Wanted;
use super::submodules::{self, Holder, Mounts};
use super::tree::{self, Found, Kind};
use crate::git::error::{FetchError, plain};
use crate::git::wire::Prepared;
use git2::Oid;
use sha2::{Digest, Sha256};
use shared::source::{CommitId, RepoPath};
use shared::spec::config_toml::{self, FILE_NAMES, Parsed, SIZE_LIMIT};
use shared::spec::{BuildSpec, DeploymentSpec, ImageSpec, Lang, ServiceSpec};

/// The largest `.dockerignore` and `package.json` that are read, in bytes.
const SMALL_FILE: u64 = 64 << 10;
const PACKAGE_FILE: u64 = 1 << 20;

/// Everything that is needed to write the build context.
pub(super) struct Plan {
    commit: CommitId,
    spec: DeploymentSpec,
    warnings: Vec<String>,
    content_hash: String,
    /// The time of the commit, in seconds: what files are dated.
    pub(super) time: u64,
    /// The tree of the build context.
    pub(super) context: Oid,
    /// The trees of its submodules.
    pub(super) mounts: Mounts,
    /// How the image is built; nothing when no service is built from the repository.
    pub(super) recipe: Option<Recipe>,
    /// What stays out.
    pub(super) ignore: Ignore,
}

/// How the image is built.
pub(super) enum Recipe {
    /// By a Dockerfile of the repository.
    Own {
        path: RepoPath,
        /// Its content, when not as it stands in the repository.
        replaced: Option<Vec<u8>>,
    },
    /// By a built-in one.
    BuiltIn { lang: Lang, text: String },
}

impl Plan {
    /// What the parent is told.
    pub(super) fn prepared(&self) -> Prepared {
        Prepared {
            commit: self.commit.clone(),
            spec: self.spec.clone(),
            warnings: self.warnings.clone(),
            content_hash: self.content_hash.clone(),
        }
    }
}

/// Fetches, reads the configuration, counts the tree, fetches submodules.
pub(super) fn make(depot: &Depot) -> Result<Plan, Trouble> {
    let order = depot.order();
    let wanted = Wanted {
        git_ref: order.git_ref.clone(),
        commit: order.commit.clone(),
    };
    let id = depot.commit(&order.url, &wanted)?;
    let commit = depot
        .repo
        .find_commit(id)
        .map_err(|error| Trouble::damaged(&error))?;
    let subject = commit
        .summary()
        .ok()
        .flatten()
        .map_or(String::new(), |subject| format!(" ({})", plain(subject)));
    depot.talk().log(format!("commit {id}{subject}"));
    let found =
        CommitId::parse(&id.to_string()).map_err(|error| FetchError::failed(error.to_string()))?;
    depot.talk().found(&found);

    let root = commit.tree_id();
    let context = context(depot, root)?;
    let Parsed { spec, warnings } = configuration(depot, context)?;

    let mut census = Census::new(depot)?;
    census.add(context)?;
    let mut mounts = Mounts::new();
    let holder = Holder {
        url: &order.url,
        root,
        subdir: order.subdir.as_ref(),
        used: context,
        at: b"",
        level: 1,
    };
    submodules::gather(depot, &mut census, &holder, &mut mounts)?;

    let recipe = recipe(depot, context, &spec)?;
    let ignore = ignore(depot, context, recipe.as_ref())?;
    Ok(Plan {
        commit: found,
        warnings: warnings.iter().map(ToString::to_string).collect(),
        content_hash: content_hash(context, &mounts, recipe.as_ref()),
        spec,
        time: u64::try_from(commit.time().seconds()).unwrap_or(0),
        context,
        mounts,
        recipe,
        ignore,
    })
}

/// The tree of the folder that is deployed.
fn context(depot: &Depot, root: Oid) -> Result<Oid, Trouble> {
    let Some(subdir) = &depot.order().subdir else {
        return Ok(root);
    };
    match tree::find(&depot.repo, &depot.odb()?, root, subdir)? {
        Found::Entry(entry) if entry.kind == Kind::Folder => Ok(entry.id),
        Found::Entry(entry) => Err(FetchError::config_invalid(format!(
            "subdir `{subdir}` is {}, not a folder",
            entry.kind.as_str()
        ))
        .into()),
        Found::Blocked { part, kind } => Err(FetchError::config_invalid(format!(
            "subdir `{subdir}`: `{part}` is {}, not a folder",
            kind.as_str()
        ))
        .into()),
        Found::Nothing => Err(FetchError::config_missing(format!(
            "the repository has no folder `{subdir}`"
        ))
        .into()),
    }
}

fn configuration(depot: &Depot, context: Oid) -> Result<Parsed, Trouble> {
    let odb = depot.odb()?;
    let entries = tree::read(&depot.repo, &odb, context)?;
    for name in FILE_NAMES {
        let Some(entry) = entries.iter().find(|entry| entry.name == name.as_bytes()) else {
            continue;
        };
        if !matches!(entry.kind, Kind::File { .. }) {
            return Err(FetchError::config_invalid(format!(
                "{name} is {}; it has to be a file",
                entry.kind.as_str()
            ))
            .into());
        }
        let content = tree::blob(&odb, entry.id, SIZE_LIMIT as u64)?.ok_or_else(|| {
            FetchError::config_invalid(format!("{name} has more than {SIZE_LIMIT} bytes"))
        })?;
        return config_toml::parse(name, &content)
            .map_err(|error| FetchError::config_invalid(error.to_string()).into());
    }
    let place = depot
        .order()
        .subdir
        .as_ref()
        .map_or("at its root".to_owned(), |subdir| {
            format!("in the folder `{subdir}`")
        });
    let near = near_miss::look(depot, &odb, &entries)?.unwrap_or_default();
    Err(FetchError::config_missing(format!(
        "the repository has no {} {place}{near}",
        FILE_NAMES.join(", ").replace(", s", " or s")
    ))
    .into())
}

fn recipe(depot: &Depot, context: Oid, spec: &DeploymentSpec) -> Result<Option<Recipe>, Trouble> {
    let built = spec
        .services
        .iter()
        .find_map(|service| match &service.image {
            ImageSpec::Build(build) => Some((service, build)),
            ImageSpec::Pull { .. } => None,
        });
    let recipe = match built {
        None => return Ok(None),
        Some((_, BuildSpec::Dockerfile { path })) => own(depot, context, path)?,
        Some((service, BuildSpec::BuiltIn { lang, .. })) => {
            built_in(depot, context, service, *lang)?
        }
    };
    Ok(Some(recipe))
}

fn own(depot: &Depot, context: Oid, path: &RepoPath) -> Result<Recipe, Trouble> {
    let content = dockerfile::read(depot, context, path)?;
    let replaced = dockerfile::without_syntax(&content)
        .map_err(|foreign| FetchError::config_invalid(format!("{path}: {foreign}")))?;
    if replaced.is_some() {
        depot.talk().log(format!(
            "the line `# syntax=` of {path} is left out: the engine's own frontend builds it"
        ));
    }
    Ok(Recipe::Own {
        path: path.clone(),
        replaced,
    })
}

fn built_in(
    depot: &Depot,
    context: Oid,
    service: &ServiceSpec,
    lang: Lang,
) -> Result<Recipe, Trouble> {
    let odb = depot.odb()?;
    let entries = tree::read(&depot.repo, &odb, context)?;
    let mut facts = Facts::default();
    for entry in entries
        .iter()
        .filter(|entry| matches!(entry.kind, Kind::File { .. }))
    {
        if let Ok(name) = std::str::from_utf8(&entry.name) {
            facts.files.push(name.to_owned());
        }
        if lang == Lang::Node && entry.name == b"package.json" {
            let content = tree::blob(&odb, entry.id, PACKAGE_FILE)?;
            let package =
                content.and_then(|content| serde_json::from_slice::<Package>(&content).ok());
            facts.package =
                Some(package.ok_or_else(|| {
                    FetchError::config_invalid("package.json is not a package.json")
                })?);
        }
    }
    let ask = builtin::Ask {
        lang,
        base: depot.order().builtin.of(lang),
        command: service.command.as_deref(),
        port: service.ports.first().copied(),
        volumes: service
            .volumes
            .iter()
            .map(|volume| volume.path.as_str())
            .collect(),
    };
    let text = builtin::dockerfile(&ask, &facts).map_err(FetchError::config_invalid)?;
    Ok(Recipe::BuiltIn { lang, text })
}

/// The ignore file: of the Dockerfile by name if there is one, else that of the context.
fn ignore(depot: &Depot, context: Oid, recipe: Option<&Recipe>) -> Result<Ignore, Trouble> {
    let own = match recipe {
        Some(Recipe::Own { path, .. }) => Some(format!("{path}.dockerignore")),
        _ => None,
    };
    let odb = depot.odb()?;
    for name in own.into_iter().chain([".dockerignore".to_owned()]) {
        let Ok(path) = RepoPath::parse(&name) else {
            continue;
        };
        let Found::Entry(entry) = tree::find(&depot.repo, &odb, context, &path)? else {
            continue;
        };
        let invalid = |wrong: &str| FetchError::config_invalid(format!("{name}: {wrong}"));
        if !matches!(entry.kind, Kind::File { .. }) {
            return Err(invalid("this is not a file").into());
        }
        let content = tree::blob(&odb, entry.id, SMALL_FILE)?
            .ok_or_else(|| invalid("the file has more than 64 KiB"))?;
        return Ok(
            Ignore::parse(&String::from_utf8_lossy(&content)).map_err(|wrong| invalid(&wrong))?
        );
    }
    Ok(Ignore::default())
}

/// Everything that decides what the image is: the tree with its submodules, and how it is built.
fn content_hash(context: Oid, mounts: &Mounts, recipe: Option<&Recipe>) -> String {
    // Each part begins with its length, so that no two lists of parts read the same.
    let mut hash = Sha256::new_with_prefix("longshore build context 1");
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(context.as_bytes());
    match recipe {
        None => part(b"none"),
        Some(Recipe::Own { path, .. }) => {
            part(b"own");
            part(path.as_str().as_bytes());
        }
        Some(Recipe::BuiltIn { text, .. }) => {
            part(b"built-in");
            part(text.as_bytes());
        }
    }
    for (path, tree) in mounts {
        part(path);
        part(tree.as_bytes());
    }
    hex::encode(hash.finalize())
}
