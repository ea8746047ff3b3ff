"""The edge router: answers every request with a `307` to a ready replica, and stays in the path of no byte after that.

Standard library only, nothing of Sailplane's other packages, below 100 KB, so that it starts fast in any function.

    messages.py   Request, Response, and a refusal as problem+json
    table.py      what may be routed where: the control plane's document, checked, as frozen objects
    pick.py       which replica (pure)
    counts.py     how many requests, per service and second, until the control plane has acknowledged them
    recent.py     which replica a client was sent to last
    router.py     a request in, a response out; owns the four above; thread-safe, no I/O
    exchange.py   one HTTP exchange with the control plane: counts out, table in
    refresh.py    when to exchange: regularly, at once on a knock, seldom while nobody answers
    platforms/    what differs between the places it runs in: aws, gcp, azure (function.py is what they share), server
"""
