//! Client ids that whoever builds and distributes this program puts into it, for profiles that name
//! none: `VALETKEY_CLIENT_IDS="acme=0123 other=4567"` in the environment of the build.

pub(super) fn client_id(profile: &str) -> Option<&'static str> {
    let pairs = option_env!("VALETKEY_CLIENT_IDS").unwrap_or_default().split_whitespace();
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == profile).map(|(_, id)| id)
}
