"""E-mail: composition of mails about cases and about the site, and submission by SMTP to each recipient once.

`case_mail`, `digest_mail` and `operator_notice` compose; `sender` sends what a recipient lacks by the `receipts`; `smtp` submits.
"""
