"""The distribution-spec client: how images leave a registry.

`client` is the way in; `fetch` streams one blob through interruptions.  `protocol`, `auth` and
`retry` are pure; `credentials` and `transport` touch the host.  Nothing here knows of a store.
"""
