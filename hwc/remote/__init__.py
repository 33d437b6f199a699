"""HOST half of a deployment: the user's own OpenSSH, a copy that resumes, builds that outlive the link."""
