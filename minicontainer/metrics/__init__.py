"""The exporter: the accounting of all containers for Prometheus, read from the kernel when it is scraped.

    source.py      what a container is to the exporter; engine_source.py reads the engine's own files
    families.py    the table of every metric: name, type, help, labels, where its value comes from
    group_files.py network.py disk.py host.py    read, at scrape time, through descriptors that stay open
    page.py        rows and families as text, with everything but the numbers kept ready
    exporter.py    one scrape; own.py: what it says about itself (prometheus_client); server.py: HTTP

A figure that can't be known is left out, and minicontainer_unavailable says which and why.
"""
