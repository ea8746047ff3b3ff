"""The edge router: answers who shows a key with a `307` to a ready replica, and stays in the path of no byte after that.

Standard library only, nothing of Sailplane's other packages, some 40 KB as a zip, so that it starts fast in any function.

A request's way:

    router.py      a request in, a response out; owns what follows; thread-safe, no I/O, no waiting
    messages.py    Request, Response, and a refusal as problem+json
    cors.py        browsers' preflights, answered here
    address.py     what the path says: service, hop, ticket, and the rest that is the replica's
    admission.py   who asks, for which service, and may they?
    keys.py        endpoint keys and their rate
    models.py      the model in a body picks the service; the list of models
    prompt.py      what a JSON body says of model and prompt
    patience.py    how long a client is held while nobody is ready
    recent.py      which replica a client was sent to last
    pick.py        which replica it gets
    rendezvous.py  the same key, the same replica
    quotas.py      what each replica may give a key of its limits
    grants.py      what lets the client in there

What the control plane tells, and is told:

    table.py       what may be routed where: the control plane's document, checked, as frozen objects
    sealing.py     what the router token is for: opening the table, the root of grants
    counts.py      how many requests, per service and second, until the control plane has acknowledged them
    exchange.py    one exchange with the control plane: counts out, table in
    snapshot.py    the table out of object storage, while the control plane is gone
    s3.py          how it is asked for where only the function's role may read it
    ask.py         HTTP for both
    refresh.py     when to exchange: regularly, at once on a knock, seldom while nobody answers

    platforms/    what differs between the places it runs in: aws, gcp, azure (function.py is what they share), server
"""
