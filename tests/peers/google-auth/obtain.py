# Gets an access token as every program of Google's does: from the credential configuration that
# GOOGLE_APPLICATION_CREDENTIALS names. Prints it, or what google-auth says.
import sys

import google.auth
import google.auth.exceptions
from google.auth.transport.requests import Request

try:
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    credentials.refresh(Request())
except google.auth.exceptions.GoogleAuthError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(credentials.token)
