"""A dnf plugin of reimzul's: writes down what a transaction would install, exactly."""

import json
import os

import dnf


class Reimzul(dnf.Plugin):
    name = "reimzul"

    def resolved(self):
        path = os.environ.get("REIMZUL_TRANSACTION")
        if not path:
            return
        packages = {}
        for package in self.base.transaction.install_set:
            checksum = package.chksum
            packages[str(package)] = checksum[1].hex() if checksum else str(package.buildtime)
        with open(path, "w") as file:
            json.dump(packages, file)
