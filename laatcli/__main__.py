"""`python -m laatcli` is `laat`."""

from laatcli.app import main

main()
