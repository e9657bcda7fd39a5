"""The prepare task: from the user's config to data that every worker can map, with all that is wrong found first."""
