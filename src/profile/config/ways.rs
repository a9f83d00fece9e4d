//! How a person signs in where that is not OAuth's own choice: a variable that says it, and the
//! tables of sites with a way of their own.

use url::Url;

use super::super::entry::FlowVariable;
use super::super::{Flow, Handoff, Relay, Site, is_safe};
use crate::environment::Environment;

/// The flow, and the setting of the environment that makes the host an open one.
pub(super) fn flow(
    own: Option<Flow>,
    variable: Option<FlowVariable>,
    environment: &Environment,
) -> Result<(Option<Flow>, Option<String>), String> {
    let Some(FlowVariable { name, words }) = variable else { return Ok((own, None)) };
    let Some(value) = environment.get(&name) else { return Ok((own, None)) };
    let named = || <Flow as clap::ValueEnum>::from_str(value, false).ok();
    let Some(flow) = words.get(value).copied().or_else(named) else {
        let known: Vec<_> = words.keys().map(String::as_str).collect();
        return Err(format!("knows no {name}={value}, only {}", known.join(", ")));
    };
    let open = (flow == Flow::None).then(|| format!("{name}={value}"));
    Ok((Some(flow), open))
}

/// The table that belongs to the flow. One that is there says which flow it is.
pub(super) fn site(
    flow: Option<Flow>,
    handoff: Option<Handoff>,
    relay: Option<Relay>,
) -> Result<(Option<Flow>, Option<Site>), String> {
    let (own, site) = match (handoff, relay) {
        (None, None) => match flow {
            Some(Flow::Handoff) => return Err("has flow = \"handoff\" and no handoff".to_owned()),
            Some(Flow::Relay) => return Err("has flow = \"relay\" and no relay".to_owned()),
            flow => return Ok((flow, None)),
        },
        (Some(_), Some(_)) => return Err("has both a handoff and a relay".to_owned()),
        (Some(handoff), None) => {
            check("handoff.url", &handoff.url)?;
            let names = &handoff.names;
            distinct("handoff", &[&names.token, &names.email, &names.name, "state"])?;
            (Flow::Handoff, Site::Handoff(handoff))
        }
        (None, Some(relay)) => {
            check("relay.url", &relay.url)?;
            check("relay.poll_endpoint", &relay.poll_endpoint)?;
            let names = &relay.names;
            distinct("relay", &[&names.state, &names.challenge, &names.verifier, &names.code])?;
            let tokens = [&names.access_token, &names.refresh_token, &names.id_token];
            distinct("relay", &tokens.map(String::as_str))?;
            (Flow::Relay, Site::Relay(Box::new(relay)))
        }
    };
    match flow {
        None | Some(Flow::Auto) => Ok((Some(own), Some(site))),
        Some(flow) if flow == own || flow == Flow::None => Ok((Some(flow), Some(site))),
        Some(_) => Err("has a handoff or a relay, and another flow".to_owned()),
    }
}

fn check(key: &str, url: &Url) -> Result<(), String> {
    let user = !url.username().is_empty() || url.password().is_some();
    if !is_safe(url) || user || url.fragment().is_some() {
        return Err(format!("{key} is neither https nor on this machine"));
    }
    Ok(())
}

fn distinct(table: &str, names: &[&str]) -> Result<(), String> {
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    for (index, name) in names.iter().enumerate() {
        if !plain(name) || names[..index].contains(name) {
            return Err(format!("{table} uses the name {name:?} twice, or it is none"));
        }
    }
    Ok(())
}
