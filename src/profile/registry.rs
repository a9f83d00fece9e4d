//! Which hosts are registries of container images: only these are named to clients of registries
//! that ask for all there is. Rule D9 of protocol.md.

/// Public registries, by their pages.
const KNOWN: &[&str] = &[
    "index.docker.io",
    "ghcr.io",
    "quay.io",
    "gcr.io",
    "icr.io",
    "nvcr.io",
    "lscr.io",
    "cgr.dev",
    "public.ecr.aws",
    "mcr.microsoft.com",
    "registry.gitlab.com",
    "registry.digitalocean.com",
    "registry.redhat.io",
    "registry.connect.redhat.com",
    "registry.suse.com",
    "docker.elastic.co",
    "container-registry.oracle.com",
];

/// Where each customer has a registry of the name that stands before these.
const BELOW: &[&str] =
    &[".azurecr.io", ".azurecr.cn", ".azurecr.us", ".gcr.io", ".pkg.dev", ".icr.io", ".ocir.io"];

/// Whether an origin is known as a registry's.
pub(super) fn is_known(origin: &str) -> bool {
    let Some(host) = origin.strip_prefix("https://") else { return false };
    let of_aws = host.contains(".dkr.ecr.")
        && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"));
    KNOWN.contains(&host) || BELOW.iter().any(|end| host.ends_with(end)) || of_aws
}
