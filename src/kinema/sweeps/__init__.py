"""Many runs: collected into tables with statistics."""
