# Asks the cluster of the kubeconfig for its version as every program of Python's does. Prints the
# answer, or what the client says.
import sys

from kubernetes import client, config

try:
    config.load_kube_config()
    answer = client.VersionApi().get_code(_preload_content=False)
except client.ApiException as error:
    sys.exit(f"{type(error).__name__}: {error}")
sys.stdout.write(answer.data.decode())
