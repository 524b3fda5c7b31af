def write_report(study, found):
    return str(study.readme)
